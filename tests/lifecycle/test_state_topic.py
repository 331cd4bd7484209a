"""The state topic of a real Kafka: what other releases wrote into it, what leaves it, and who shares it."""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.installation import Installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.service import DoubleService, Service
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

HEADER = "moorage-state"
PROVISIONED = ("EVENT_START", "provisioned", None)
RELEASED = ("EVENT_END", "released", None)
ENDED_ALREADY = ("EVENT_START", "skipped", "already_ended")


def start_of(*bookings: Booking) -> list[Message]:
    return [Message(booking.start_event(), booking.id.encode()) for booking in bookings]


def end_of(*bookings: Booking) -> list[Message]:
    return [Message(booking.end_event(), booking.id.encode()) for booking in bookings]


def remembered(ours: Installation) -> dict[str, Message]:
    """The last record of each reservation in the state topic."""
    return {(each.key or b"").decode(): each for each in ours.kafka.read(ours.names.state)}


def make_state_topic(ours: Installation, **settings: str) -> None:
    ours.kafka.create(ours.names.state)
    ours.kafka.configure(ours.names.state, **settings)


@contextmanager
def second_topic(ours: Installation, *, partitions: int) -> Iterator[str]:
    """Another topic of reservations, which services of `ours` consume as well."""
    name = f"{ours.names.inbound}-more"
    ours.kafka.create(name, partitions=partitions)
    ours.settings["MOORAGE_TOPICS"] = f"{ours.names.inbound},{name}"
    try:
        yield name
    finally:
        ours.kafka.forget(name)


def settle(ours: Installation, *topics: str) -> None:
    for topic in topics:
        eventually(lambda topic=topic: ours.kafka.lag(ours.names.group, topic) == {}, what=f"{topic} is handled")


def owned(service: Service) -> dict[str, set[int]]:
    """The partition numbers that it was assigned last, by topic."""
    found: dict[str, set[int]] = defaultdict(set)
    for each in service.events("partitions_assigned")[-1]["partitions"]:
        topic, _, number = each.partition("@")[0].rpartition("/")
        found[topic].add(int(number))
    return found


def test_what_a_newer_release_remembers_is_left_alone(ours: Installation) -> None:
    make_state_topic(ours, cleanup_policy="compact")
    newer, broken, known = Booking("1841"), Booking("1842"), Booking("1843")
    theirs = {
        newer.id: json.dumps({"version": 2, "reservationId": newer.id, "phase": "ACTIVE"}).encode(),
        broken.id: b"{",
    }
    ours.kafka.publish(ours.names.state, [Message(value, key.encode()) for key, value in theirs.items()])
    for life in ("first", "second"):
        with ours.service(life, kind=DoubleService, MOORAGE_TOMBSTONE_RETENTION="1") as service:
            ours.publish(*start_of(newer, known, broken), *end_of(newer))
            ours.settle()
            assert len(service.events("state_unreadable")) == len(service.events("state_from_newer_version")) == 1
            assert service.stop() == 0

    found = remembered(ours)
    assert {key: found[key].value for key in theirs} == theirs
    seen = ours.look()
    assert seen.told(newer.id) == seen.told(broken.id) == ()
    assert seen.told(known.id) == (PROVISIONED, PROVISIONED)
    letters = [(each.key, each.header("moorage-dlt-error-code")) for each in seen.dead_letters]
    assert sorted(letters) == [(b"1841", "state_from_newer_version")] * 4 + [(b"1842", "state_unreadable")] * 2


@pytest.mark.parametrize("indexed", [True, False])
def test_what_is_remembered_is_known_with_and_without_its_index(ours: Installation, indexed: bool) -> None:
    ended, runs = Booking("1841"), Booking("1842")
    with ours.service("first", kind=DoubleService) as service:
        ours.publish(*start_of(ended, runs), *end_of(ended))
        ours.settle()
        assert service.stop() == 0
    found = remembered(ours)
    assert [(found[each.id].header(HEADER) or "")[:8] for each in (ended, runs)] == ['[1,"RELE', '[1,"ACTI']
    if not indexed:
        ours.kafka.publish(ours.names.state, [Message(each.value, each.key) for each in found.values()])

    with ours.service("second", kind=DoubleService) as service:
        assert service.wait_for("state_restored")["states"] == 2
        ours.publish(*start_of(ended), *end_of(runs))
        ours.settle()
        assert service.stop() == 0
    seen = ours.look()
    assert seen.told(ended.id) == (PROVISIONED, RELEASED, ENDED_ALREADY)
    assert seen.told(runs.id) == (PROVISIONED, RELEASED)


def test_what_is_long_over_leaves_the_topic(ours: Installation) -> None:
    over = Booking("1841", start=datetime.now(UTC) - timedelta(hours=2), end=datetime.now(UTC) - timedelta(hours=1))
    later = Booking("1842")
    with ours.service("first", kind=DoubleService, MOORAGE_TOMBSTONE_RETENTION="3") as service:
        ours.publish(*end_of(over, later))
        ours.settle()
        eventually(lambda: remembered(ours)[over.id].value is None, what="the reservation is forgotten")
        said = [each.value for each in ours.kafka.read(ours.names.state) if each.key == over.id.encode()]
        assert said[0] is not None
        assert remembered(ours)[later.id].value is not None
        ours.publish(*start_of(over))
        ours.settle()
        assert service.stop() == 0
    with ours.service("second", kind=DoubleService) as service:
        assert service.wait_for("state_restored")["states"] == len(
            [each for each in remembered(ours).values() if each.value is not None]
        )
        assert service.stop() == 0
    assert ours.look().told(over.id)[-1] == ("EVENT_START", "skipped", "already_over")


def test_a_state_topic_that_forgets_is_refused(ours: Installation) -> None:
    make_state_topic(ours, cleanup_policy="delete")
    service = ours.launch(kind=DoubleService)
    try:
        assert service.exit_code() == 1
        said = " ".join(service.output().split())
        assert "is not compacted (cleanup.policy=delete)" in said
        assert "--add-config cleanup.policy=compact" in said
    finally:
        service.kill()


def test_topics_of_one_size_share_their_states_with_several_members(ours: Installation) -> None:
    bookings = [Booking(str(number)) for number in range(1000, 1024)]
    with second_topic(ours, partitions=8) as more, ours.service("one", kind=DoubleService) as one:
        with ours.service("two", kind=DoubleService) as two:
            one.wait_for("state_restored", times=2)
            for service in (one, two):
                numbers = owned(service)
                assert numbers[ours.names.inbound] == numbers[more]
                assert len(numbers[more]) == 4
            ours.publish(*start_of(*bookings))
            settle(ours, ours.names.inbound)
            ours.kafka.publish(more, end_of(*bookings))
            settle(ours, more)
            ours.publish(*start_of(*bookings))
            settle(ours, ours.names.inbound)
            assert two.stop() == 0
        assert one.stop() == 0
    seen = ours.look()
    assert {seen.told(each.id) for each in bookings} == {(PROVISIONED, RELEASED, ENDED_ALREADY)}


def test_topics_of_different_sizes_keep_their_reservations_apart(ours: Installation) -> None:
    here = [Booking(str(number)) for number in range(1000, 1024)]
    there = [Booking(str(number)) for number in range(2000, 2024)]
    with second_topic(ours, partitions=4) as more:
        short = {"MOORAGE_TOMBSTONE_RETENTION": "1"}
        with ours.service("one", kind=DoubleService, **short) as one:
            (warning,) = one.events("partition_counts_differ")
            assert warning["topics"] == {ours.names.inbound: 8, more: 4}
            with ours.service("two", kind=DoubleService, **short) as two:
                one.wait_for("state_restored", times=2)
                for step in (start_of, end_of, start_of):
                    ours.publish(*step(*here))
                    ours.kafka.publish(more, step(*there))
                    settle(ours, ours.names.inbound, more)
                assert two.stop() == 0
            assert one.stop() == 0
        with ours.service("three", kind=DoubleService) as three:
            ours.publish(*start_of(*here))
            ours.kafka.publish(more, start_of(*there))
            settle(ours, ours.names.inbound, more)
            assert three.stop() == 0
    seen = ours.look()
    assert {seen.told(each.id) for each in (*here, *there)} == {(PROVISIONED, RELEASED, ENDED_ALREADY, ENDED_ALREADY)}
