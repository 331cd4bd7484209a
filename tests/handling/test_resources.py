"""A deleted resource ends the environments that run on it, each in the lane of its own reservation."""

import pytest

from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.handling.ports import Environment, Status
from consumer.handling.publications import Channel, end_of
from schemas.deadletter import parse_dead_letter
from schemas.events import EventKind, ReservationEvent
from schemas.examples import sample_document
from schemas.inbound import decode
from schemas.outbound import Access
from tests.handling.stage import NINE, Document, Stage, start


def gone(kind: str = "RESOURCE_DELETED") -> Document:
    document: Document = sample_document("resource_deleted")
    return document | {"eventType": kind}


async def test_every_environment_on_it_is_sent_an_end_that_can_be_read() -> None:
    stage = Stage()
    await stage.deliver_all(start(), start(eventId="7"), start(eventId="8", resourceId=13))
    await stage.deliver(start(eventId="9", resourceType="Pod"))
    told = await stage.deliver(gone())
    ends = told.on(Channel.INBOUND)
    assert len(ends) == len(told.publications)
    assert sorted(each.key or b"" for each in ends) == [b"1841", b"7", b"9"]
    for each in ends:
        (event,) = decode(each.value)
        assert isinstance(event, ReservationEvent)
        assert (event.kind, event.reservation_id.encode()) == (EventKind.END, each.key)
        assert event.resource.id == "12"


async def test_those_ends_release_and_tell_the_one_who_was_there() -> None:
    stage = Stage()
    await stage.deliver(start())
    (sent,) = (await stage.deliver(gone())).on(Channel.INBOUND)
    told = await stage.deliver(sent.value, key=sent.key)
    assert told.outcomes == [("released", None)]
    assert told.notifications[0].user_id == stage.state.user.id
    assert stage.running == set()


@pytest.mark.parametrize("kind", ["RESOURCE_CREATED", "RESOURCE_UPDATED", "RESOURCE_REPAINTED"])
async def test_other_news_of_a_resource_end_nothing(kind: str) -> None:
    stage = Stage()
    await stage.deliver(start())
    assert (await stage.deliver(gone(kind))).publications == ()


async def test_a_runtime_that_does_not_answer_is_waited_for() -> None:
    stage = Stage()
    await stage.deliver(start())
    for nth in range(1, 101):
        stage.docker.fail("list", Unavailable("no answer"), nth=nth)
    told = await stage.deliver(gone())
    assert len(told.on(Channel.INBOUND)) == 1
    assert len(told.waits) == 100


async def test_a_runtime_that_cannot_say_what_runs_is_given_up_after_some_attempts() -> None:
    stage = Stage()
    for nth in range(1, 10):
        stage.docker.fail("list", Transient("runtime_error", "no"), nth=nth)
    record = stage.record(gone())
    told = await stage.deliver_record(record)
    (letter,) = told.publications
    assert (letter.value, len(told.waits)) == (record.value, 3)
    assert parse_dead_letter(letter.key, letter.value, letter.headers).error_code == "runtime_error"


async def test_a_runtime_that_will_never_say_what_runs_is_given_up_at_once() -> None:
    stage = Stage()
    stage.docker.fail("list", Permanent("runtime_error", "never"))
    told = await stage.deliver(gone())
    assert (len(told.letters), told.waits) == (1, [])


@pytest.mark.parametrize("user", [None, "ann", " two\nlines ", "x" * 500])
def test_whatever_labels_hold_an_end_can_be_read(user: str | None) -> None:
    environment = Environment(
        runtime="docker",
        name="r-x",
        native_id="1",
        key="k",
        reservation_id="1841",
        resource_id="12",
        spec_hash="h",
        status=Status.RUNNING,
        access=Access(host="localhost"),
        user=user,
    )
    (event,) = decode(end_of(environment, NINE).value)
    assert isinstance(event, ReservationEvent)
    assert event.end >= NINE
