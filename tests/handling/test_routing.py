"""The lane is the reservation's, whatever the record's key says."""

import json

from hypothesis import given
from hypothesis import strategies as st

from consumer.dispatch import Assignment, Work
from consumer.handling.records import Item, Record
from consumer.handling.routing import route
from schemas.events import ReservationEvent
from schemas.examples import sample, sample_document
from schemas.inbound import DecodeError
from schemas.state import Phase
from tests.handling.stage import Stage, end, resource, start, updated


def record(value: bytes | None, *, key: bytes | None = None, offset: int = 5) -> Record:
    return Record("reservations", 3, offset, 0, key, value)


def lanes(value: bytes | None, **options: object) -> list[object]:
    return [lane for lane, _ in route(record(value, **options), max_bytes=262_144)]  # type: ignore[arg-type]


def test_a_batch_becomes_an_item_for_each_reservation_in_order() -> None:
    routed = route(record(sample("batch_start")), max_bytes=262_144)
    assert [lane for lane, _ in routed] == ["1843", "1844"]
    assert [item.content.reservation_id for _, item in routed if isinstance(item.content, ReservationEvent)] == [
        "1843",
        "1844",
    ]
    assert len({id(item.record) for _, item in routed}) == 1


def test_two_bookings_of_one_reservation_in_a_batch_keep_their_order() -> None:
    document = sample_document("batch_start")
    document["events"][1]["eventId"] = "1843"
    assert lanes(json.dumps(document).encode()) == ["1843", "1843"]


@given(st.none() | st.binary(max_size=20))
def test_records_with_no_key_or_a_foreign_one_are_in_the_lane_of_their_reservation(key: bytes | None) -> None:
    assert lanes(sample("event_start"), key=key) == lanes(sample("event_deleted"), key=b"1841") == ["1841"]


def test_events_of_one_resource_share_a_lane_that_is_no_reservation_s() -> None:
    assert lanes(sample("resource_deleted")) == [("resource", "12")]


def test_what_keeps_order_with_nothing_is_alone() -> None:
    assert lanes(sample("ping"), offset=8) == [("reservations", 3, 8)]
    assert lanes(b"?", offset=9) == [("reservations", 3, 9)]


@given(st.none() | st.binary(max_size=200))
def test_every_record_is_routed_somewhere(value: bytes | None) -> None:
    ((_, item),) = route(record(value), max_bytes=100)
    assert isinstance(item.content, DecodeError)
    assert item.record.value == value
    assert item.record.size >= len(value or b"")


def test_a_record_above_the_limit_is_not_read() -> None:
    ((_, item),) = route(record(sample("event_start")), max_bytes=100)
    assert isinstance(item.content, DecodeError)
    assert item.content.code == "too_large"


async def test_a_batch_provisions_for_each_of_its_reservations() -> None:
    stage = Stage()
    batch = sample("batch_start").replace(b"T09:00:00Z", b"T09:30:00Z")
    told = await stage.deliver(batch, key=None)
    assert [result.event_id for result in told.results] == ["1843", "1844"]
    assert len(stage.running) == 2
    assert [each.key for each in told.publications if each.partition == 3] == [b"1843", b"1844"]


async def test_work_counts_against_the_runtime_it_will_need() -> None:
    stage = Stage()

    def group(document: dict[str, object]) -> str | None:
        ((lane, item),) = route(stage.record(document), max_bytes=262_144)
        work: Work[Item] = Work(Assignment("reservations", 3), 0, lane, item, 0, 0.0)
        return stage.handler.group_of(work)

    assert group(start()) == "docker"
    assert group(start(resourceType="Pod")) == "podman"
    assert group(start(resourceType="Blackboard")) is None
    assert group(sample_document("ping")) is None
    await stage.deliver(start())
    assert group(updated(1, resource=resource(13, "Pod"))) == "docker"
    await stage.deliver(end())
    assert stage.state.phase is Phase.RELEASED
    assert group(end()) == "docker"
