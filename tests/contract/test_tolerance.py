"""What the platform may do differently without a record being refused."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import EventKind, ReservationEvent, Resource, ResourceEvent, User
from schemas.examples import sample_document
from tests.contract.payloads import changed, flat, identifiers, json_values, moments, names, read, read_one


@pytest.mark.parametrize("number", [0, 7, 1841, 2**63, 10**127])
def test_a_number_or_a_string_is_the_same_reservation_id(number: int) -> None:
    assert read(flat(eventId=number)) == read(flat(eventId=str(number)))


def test_a_number_or_a_string_is_the_same_id_in_an_envelope() -> None:
    envelope = sample_document("event_updated")
    as_text = changed(envelope, {"webhookId": 7, "data": changed(envelope["data"], {"id": "1841"})})
    assert read(as_text) == read(envelope)


@pytest.mark.parametrize("absent", [..., None, "", "  "])
def test_text_the_platform_could_not_look_up_is_none(absent: Any) -> None:
    fields = ("username", "email", "sshPublicKey", "siteName", "resourceType", "resourceName", "eventTitle")
    event = read_one(flat(**dict.fromkeys(fields, absent)))
    assert event.user == User("5f0c8a52-6d5e-4c0e-9a55-6f1f0a4d2b11")
    assert (event.title, event.resource.name, event.resource.type, event.resource.site_name) == (None,) * 4


@pytest.mark.parametrize("absent", [..., None, ""])
def test_an_id_that_nobody_needs_may_be_absent(absent: Any) -> None:
    event = read_one(flat(webhookId=absent, siteId=absent))
    assert (event.webhook_id, event.resource.site_id) == (None, None)


@pytest.mark.parametrize("kind", [..., None, {}, {"id": 5, "name": None}])
def test_a_resource_in_an_envelope_may_have_no_type(kind: Any) -> None:
    envelope = sample_document("resource_deleted")
    (event,) = read(changed(envelope, {"data": changed(envelope["data"], {"type": kind})}))
    assert isinstance(event, ResourceEvent)
    assert event.resource.type is None


@pytest.mark.parametrize("none", [..., None, "", " ", "null", "{}", " {} ", {}])
def test_every_way_to_give_no_parameters_is_empty(none: Any) -> None:
    assert read_one(flat(customParameters=none)).parameters == {}


def test_parameters_may_be_an_object_already() -> None:
    labels = {"CPU limit": "500m", "Größe": "groß"}
    assert read_one(flat(customParameters=labels)).parameters == labels
    assert read_one(flat(customParameters=json.dumps(labels))).parameters == labels


def test_scalar_parameters_become_their_json_text() -> None:
    given_values = {"count": 3, "share": 0.5, "gpu": True, "debug": False, "note": None, "text": "x"}
    expected = {"count": "3", "share": "0.5", "gpu": "true", "debug": "false", "text": "x"}
    assert read_one(flat(customParameters=given_values)).parameters == expected


def test_the_last_of_two_equal_keys_counts() -> None:
    assert read_one(flat(customParameters='{"image":"a","image":"b"}')).parameters == {"image": "b"}


@pytest.mark.parametrize("kind", ["RESOURCE_CREATED", "RESOURCE_UPDATED", "RESOURCE_ARCHIVED"])
def test_any_resource_event_is_read(kind: str) -> None:
    (event,) = read(changed(sample_document("resource_deleted"), {"eventType": kind}))
    assert isinstance(event, ResourceEvent)
    assert (event.kind, event.resource.id) == (kind, "12")


def test_a_created_event_is_read_like_an_updated_one() -> None:
    event = read_one(changed(sample_document("event_updated"), {"eventType": "EVENT_CREATED"}))
    assert (event.kind, event.reservation_id) == (EventKind.CREATED, "1841")


def test_an_update_without_a_version_is_read() -> None:
    envelope = sample_document("event_updated")
    event = read_one(changed(envelope, {"data": changed(envelope["data"], {"updatedAt": ...})}))
    assert event.updated_at is None


def test_equal_reservations_in_a_batch_all_come_out_in_order() -> None:
    batch = sample_document("batch_start")
    first, second = batch["events"]
    events = read(changed(batch, {"events": [first, second, first]}))
    assert [event.reservation_id for event in events if isinstance(event, ReservationEvent)] == ["1843", "1844", "1843"]


def test_a_batch_of_ends_is_read() -> None:
    events = read(changed(sample_document("batch_start"), {"eventType": "EVENT_END"}))
    assert [event.kind for event in events if isinstance(event, ReservationEvent)] == [EventKind.END] * 2


def test_a_flat_event_with_null_for_a_batch_is_flat() -> None:
    assert read(flat(events=None)) == read(flat())


@given(unknown=st.dictionaries(st.text(min_size=1, max_size=12).map("x-".__add__), json_values, max_size=5))
def test_unknown_fields_change_nothing(unknown: dict[str, Any]) -> None:
    # Numbers that are not JSON are another matter; json.dumps would write them.
    clean = json.loads(json.dumps(unknown), parse_constant=lambda _: None)
    assert read(clean | flat()) == read(flat())


@given(
    ids=st.tuples(identifiers, identifiers, identifiers, identifiers, identifiers),
    texts=st.tuples(names, names, names, names, names, names, names, names, names),
    times=st.tuples(moments, moments, st.timedeltas(timedelta(microseconds=1), timedelta(days=400))),
    parameters=st.dictionaries(st.text(st.characters(exclude_categories=["C"]), max_size=20), st.just("1"), max_size=5),
)
def test_what_was_written_flat_is_read_back(
    ids: tuple[str, ...],
    texts: tuple[str | None, ...],
    times: tuple[datetime, datetime, timedelta],
    parameters: dict[str, str],
) -> None:
    reservation, user, resource, site, webhook = ids
    title, username, email, key, name, kind, specs, location, site_name = texts
    sent, start, length = times
    payload = {
        "eventType": "EVENT_START",
        "timestamp": sent.isoformat(),
        "eventId": reservation,
        "webhookId": webhook,
        "userId": user,
        "username": username,
        "email": email,
        "sshPublicKey": key,
        "eventTitle": title,
        "eventStart": start.isoformat(),
        "eventEnd": (start + length).isoformat(),
        "customParameters": json.dumps(parameters),
        "resourceId": resource,
        "resourceName": name,
        "resourceType": kind,
        "resourceSpecs": specs,
        "resourceLocation": location,
        "siteId": site,
        "siteName": site_name,
    }
    expected = ReservationEvent(
        kind=EventKind.START,
        reservation_id=reservation,
        occurred_at=sent,
        start=start,
        end=start + length,
        user=User(user, username, email, key),
        resource=Resource(resource, name, kind, specs, location, site, site_name),
        title=title,
        parameters=parameters,
        webhook_id=webhook,
    )
    assert read(payload) == (expected,)
