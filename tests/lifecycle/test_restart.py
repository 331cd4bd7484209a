"""A restarted Moorage knows what it did: what runs, what has ended, and what must not start again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import DockerEngine, KafkaBroker
from tests.support.containers import Containers
from tests.support.installation import Installation, docker_installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.service import DoubleService

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

ENDED_ALREADY = ("EVENT_START", "skipped", "already_ended")
PROVISIONED = ("EVENT_START", "provisioned", None)
RELEASED = ("EVENT_END", "released", None)


def start_of(*bookings: Booking) -> list[Message]:
    return [Message(booking.start_event(), booking.id.encode()) for booking in bookings]


def end_of(*bookings: Booking) -> list[Message]:
    return [Message(booking.end_event(), booking.id.encode()) for booking in bookings]


@pytest.fixture
def in_containers(
    kafka: KafkaBroker, docker_engine: DockerEngine, tmp_path: Path
) -> Iterator[tuple[Installation, Containers]]:
    static = {"MOORAGE_GROUP_INSTANCE": "one"}  # recognised at once when it comes back after a kill
    with docker_installation(kafka.bootstrap_servers, docker_engine, tmp_path, **static) as both:
        yield both


@pytest.mark.docker
@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_what_an_earlier_life_did_is_known(in_containers: tuple[Installation, Containers], end: str) -> None:
    ours, containers = in_containers
    stays, ended, ends_later, never_started = (Booking(f"{end}-{number}") for number in range(4))
    with ours.service("first") as service:
        ours.publish(*start_of(stays, ended, ends_later))
        ours.settle()
        ours.publish(*end_of(ended, never_started))  # not before: it would break off what is being provisioned
        ours.settle()
        if end == "SIGTERM":
            assert service.stop() == 0
    before = {container.reservation: container.id for container in containers.all()}
    assert set(before) == {stays.id, ends_later.id}

    with ours.service("second") as service:
        ours.publish(*start_of(stays, ended, never_started), *end_of(ends_later))
        ours.settle()
        assert service.stop() == 0
    assert {container.reservation: container.id for container in containers.all()} == {stays.id: before[stays.id]}
    seen = ours.look()
    assert seen.told(stays.id) == (PROVISIONED, PROVISIONED)
    assert seen.results[stays.id][0]["id"] == seen.results[stays.id][1]["id"]
    assert seen.results[stays.id][0]["access"] == seen.results[stays.id][1]["access"]
    assert len(seen.notifications[stays.id]) == 1
    assert seen.told(ended.id) == (PROVISIONED, RELEASED, ENDED_ALREADY)
    assert seen.told(never_started.id) == (("EVENT_END", "skipped", "nothing_to_release"), ENDED_ALREADY)
    assert seen.told(ends_later.id) == (PROVISIONED, RELEASED)


@pytest.mark.docker
def test_without_the_state_topic_environments_still_end(in_containers: tuple[Installation, Containers]) -> None:
    ours, containers = in_containers
    first, second = Booking("1841"), Booking("1842")
    with ours.service("first") as service:
        ours.publish(*start_of(first, second))
        ours.settle()
        assert service.stop() == 0
    ours.kafka.delete(ours.names.state)

    with ours.service("second") as service:
        ours.publish(*end_of(first), *start_of(second))
        ours.settle()
        assert service.stop() == 0
    assert containers.reservations() == [second.id]
    seen = ours.look()
    assert seen.told(first.id) == (PROVISIONED, RELEASED)
    assert seen.told(second.id) == (PROVISIONED, PROVISIONED)


def test_an_end_under_a_foreign_key_is_remembered_wherever_the_next_event_comes_from(ours: Installation) -> None:
    booking = Booking("1841")

    def say(value: bytes, partition: int) -> None:
        ours.publish(Message(value, b"whatever", partition=partition))
        ours.settle()

    with ours.service("first", kind=DoubleService) as service:
        say(booking.start_event(), 0)
        say(booking.end_event(), 5)
        say(booking.start_event(), 0)
        say(booking.start_event(), 3)
        assert service.stop() == 0
    with ours.service("second", kind=DoubleService) as service:
        say(booking.start_event(), 0)
        say(booking.start_event(), 7)
        assert service.stop() == 0
    assert ours.look().told(booking.id) == (PROVISIONED, RELEASED, *[ENDED_ALREADY] * 4)
