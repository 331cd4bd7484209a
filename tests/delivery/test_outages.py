"""Kafka in trouble: what is missing at the start is said in a sentence, what fails later is waited out."""

import asyncio
import re
from pathlib import Path

import pytest

from consumer.transport.connection import Connection
from consumer.transport.outbox import Outbox
from consumer.transport.outgoing import Outgoing
from tests.services import KafkaBroker, free_port
from tests.support.double import Stage
from tests.support.installation import Installation, installation
from tests.support.kafka import Kafka, Message, Names
from tests.support.payloads import Booking, ping
from tests.support.service import DoubleService
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

PROVISIONED = ("EVENT_START", "provisioned", None)
RELEASED = ("EVENT_END", "released", None)


def refusal(ours: Installation, **settings: str) -> str:
    """What a service that cannot start says, in one line."""
    service = ours.launch(kind=DoubleService, **settings)
    try:
        assert service.exit_code() == 1
        said = [line for line in service.output().splitlines() if not line.startswith("{")]
        (line,) = said
        return re.sub(r"\s+", " ", line)
    finally:
        service.kill()


def lives(*numbers: int) -> list[Message]:
    """START and END of each, all the STARTs first."""
    bookings = [Booking(str(number)) for number in numbers]
    starts = [Message(booking.start_event(), booking.id.encode()) for booking in bookings]
    return starts + [Message(booking.end_event(), booking.id.encode()) for booking in bookings]


def test_without_a_broker_it_says_so_and_ends(ours: Installation) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    said = refusal(ours, KAFKA_BOOTSTRAP_SERVERS=nobody)
    assert said.startswith(f"error No Kafka broker answers at {nobody}")
    assert "KAFKA_BOOTSTRAP_SERVERS" in said


def test_missing_topics_that_may_not_be_created_are_named(ours: Installation) -> None:
    said = refusal(ours, MOORAGE_CREATE_TOPICS="false")
    assert said.startswith("error Missing topics: ")
    assert all(topic in said for topic in ours.names.topics[1:])
    assert ours.names.inbound not in said
    assert "MOORAGE_CREATE_TOPICS=true" in said


def test_a_state_topic_of_another_size_is_refused(ours: Installation) -> None:
    ours.kafka.create(ours.names.state, partitions=3)
    said = refusal(ours)
    assert f"The state topic {ours.names.state} has 3 partitions, the reservation topic 8" in said
    assert "MOORAGE_STATE_TOPIC" in said


def test_a_broker_that_goes_and_comes_back_costs_nothing(mortal: KafkaBroker, tmp_path: Path, stage: Stage) -> None:
    """First in the middle of the work, then while the service is asked to stop."""
    slow = {"MOORAGE_DOUBLE_SECONDS": "0.02", "MOORAGE_MAX_BUFFERED_RECORDS": "100"}
    static = {"MOORAGE_DRAIN_TIMEOUT": "1", "MOORAGE_GROUP_INSTANCE": "one"}
    with installation(mortal.bootstrap_servers, tmp_path, **stage.settings, **slow, **static) as ours:
        numbers = range(3000, 3200)
        whole = lives(*numbers)
        ours.publish(*whole[: len(numbers)])
        with ours.service("first", kind=DoubleService) as service:
            service.wait_for("reservation_provisioned", times=40)
            mortal.restart()
            ours.settle()
            ours.publish(*whole[len(numbers) :])  # not before: they would break off what is being provisioned
            ours.settle()

            stage.hold("1841")
            start, end = lives(1841)
            ours.publish(start)
            eventually(lambda: stage.arrivals("1841"), what="it is being provisioned")
            mortal.kill()
            stage.let_go("1841")
            assert service.stop() == 3
        mortal.start_node()
        with ours.service("second", kind=DoubleService) as service:
            ours.settle()
            ours.publish(end)  # not before: it would break off what is being provisioned
            ours.settle()
            assert service.stop() == 0
        seen = ours.look()
        assert seen.unanswered() == []
        assert seen.out_of_order() == []
        assert seen.arbitrary_ids() == []
        assert {tuple(dict.fromkeys(seen.told(str(each)))) for each in (*numbers, 1841)} == {(PROVISIONED, RELEASED)}


def test_nothing_is_committed_that_the_outbound_topic_does_not_hold(ours: Installation) -> None:
    """It vanishes and comes back; meanwhile only what leads to no message gets anywhere."""
    first, second = Booking("1841"), Booking("1842")
    with ours.service(kind=DoubleService) as service:
        ours.publish(Message(first.start_event(), partition=0))
        ours.settle()
        ours.kafka.delete(ours.names.outbound)
        ours.publish(Message(second.start_event(), partition=1))
        service.wait_for("reservation_provisioned", times=2)
        ours.publish(Message(second.end_event(), partition=2))
        ours.publish(Message(ping(), partition=3))
        eventually(lambda: 3 in ours.kafka.committed(ours.names.group, ours.names.inbound), what="the next commit")
        assert ours.kafka.lag(ours.names.group, ours.names.inbound) == {1: 1, 2: 1}

        ours.kafka.create(ours.names.outbound)
        ours.settle()
        assert service.stop() == 0
    assert tuple(dict.fromkeys(ours.look().told(second.id))) == (PROVISIONED, RELEASED)


def test_a_broker_that_dies_while_state_is_restored_does_not_keep_the_service_from_stopping(
    mortal: KafkaBroker, tmp_path: Path, stage: Stage
) -> None:
    with installation(mortal.bootstrap_servers, tmp_path, **stage.settings, MOORAGE_DRAIN_TIMEOUT="1") as ours:
        ours.publish(*lives(*range(3000, 3100)))
        service = ours.launch(kind=DoubleService)
        try:
            service.wait_for("partitions_assigned")
            mortal.kill()
            service.terminate()
            assert service.exit_code() in (0, 3)
            assert "Traceback" not in service.output()
        finally:
            service.kill()


async def test_an_outage_longer_than_the_producers_patience_loses_and_repeats_nothing(
    mortal: KafkaBroker,
) -> None:
    with Kafka(mortal.bootstrap_servers) as kafka:
        names = Names()
        kafka.create(names.outbound, partitions=1)
        outbox = Outbox(Connection(mortal.bootstrap_servers), request_timeout=1.0)
        sending = asyncio.create_task(outbox.run())
        await outbox.publish([note(names.outbound, 0)])
        await asyncio.to_thread(mortal.kill)
        # More than one batch holds, so that the producer's own buffer fills up.
        acked = [outbox.publish([note(names.outbound, number)]) for number in range(1, 200)]
        while outbox.healthy:  # noqa: ASYNC110 - nobody is told when it is not
            await asyncio.sleep(0.05)
        await asyncio.to_thread(mortal.start_node)
        async with asyncio.timeout(40):
            await asyncio.gather(*acked)
        assert outbox.unacknowledged == 0
        sending.cancel()
        await asyncio.wait([sending])
        lies = [int((message.key or b"").decode()) for message in await asyncio.to_thread(kafka.read, names.outbound)]
    assert sorted(set(lies)) == list(range(200))
    assert len(lies) == 200


def note(topic: str, number: int) -> Outgoing:
    return Outgoing(topic, bytes(1000), str(number).encode())
