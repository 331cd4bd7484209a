"""What the double can do that is hard to have of a real broker: everything going wrong, on cue."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import OffsetAndMetadata

from consumer.transport.memory import Faults, MemoryBroker, MemoryConnection, Operation
from tests.memory_broker.member import member


class LostReplies(Faults):
    """The first `count` replies to an operation are lost."""

    def __init__(self, operation: Operation, count: int = 1) -> None:
        self.left = {operation: count}

    async def at(self, client: str, operation: Operation, *, applied: bool) -> None:
        if applied and self.left.get(operation, 0):
            self.left[operation] -= 1
            raise KafkaConnectionError("lost")


class Slow(Faults):
    async def at(self, client: str, operation: Operation, *, applied: bool) -> None:
        if operation == "commit" and not applied:
            await asyncio.sleep(5)


class KilledAtCommit(Faults):
    """Whoever commits is killed when that has been carried out."""

    connection: MemoryConnection

    async def at(self, client: str, operation: Operation, *, applied: bool) -> None:
        if operation == "commit" and applied:
            self.connection.kill()


def _broker(faults: Faults | None = None, partitions: int = 2) -> MemoryBroker:
    broker = MemoryBroker(faults)
    broker.create_topic("events", partitions)
    return broker


async def test_a_member_that_was_killed_keeps_its_partitions_until_its_session_times_out() -> None:
    broker = _broker()
    dying = broker.connection()
    async with member(dying, "group", "events"), member(broker.connection(), "group", "events") as heir:
        await heir.until(lambda: len(heir.partitions) == 1)
        killed_at = asyncio.get_running_loop().time()
        dying.kill()
        await heir.until(lambda: len(heir.partitions) == 2)
        survived = asyncio.get_running_loop().time() - killed_at
    assert 5.7 < survived < 6.5


async def test_a_member_that_does_not_poll_leaves_the_group() -> None:
    broker = _broker()
    async with member(broker.connection(), "group", "events", max_poll_interval_ms=10_000) as idle:
        before = len(broker.group("group").members)
        await asyncio.sleep(15)
        meanwhile = len(broker.group("group").members)
        await idle.until(lambda: len(broker.group("group").members) == 1)
    assert (before, meanwhile) == (1, 0)


async def test_a_static_member_that_comes_back_in_time_is_given_its_partitions_without_a_rebalance() -> None:
    broker = _broker()
    first = broker.connection("first")
    async with member(broker.connection(), "group", "events") as other:
        async with member(first, "group", "events", group_instance_id="one") as before:
            await other.until(lambda: len(other.partitions) == 1)
            told, had = len(other.told), before.partitions
            first.kill()
        async with member(broker.connection(), "group", "events", group_instance_id="one") as after:
            assert (after.partitions, len(other.told)) == (had, told)


async def test_a_record_whose_acknowledgement_was_lost_is_stored_once() -> None:
    broker = _broker(LostReplies("produce"))
    producer = broker.connection().producer(enable_idempotence=True)
    await producer.start()
    placed = await (await producer.send("events", b"1", partition=0))
    await (await producer.send("events", b"2", partition=0))
    await producer.stop()
    assert placed.offset == 0
    assert [record.value for _, record in broker.topics["events"].records] == [b"1", b"2"]


async def test_a_producer_that_is_not_idempotent_stores_it_twice() -> None:
    broker = _broker(LostReplies("produce"))
    producer = broker.connection().producer()
    await producer.start()
    await (await producer.send("events", b"1", partition=0))
    await producer.stop()
    assert [record.value for _, record in broker.topics["events"].records] == [b"1", b"1"]


async def test_a_commit_is_repeated_when_its_reply_was_lost() -> None:
    broker = _broker(LostReplies("commit", 3))
    tp = TopicPartition("events", 0)
    async with member(broker.connection(), "group", "events") as reader:
        await reader.consumer.commit({tp: OffsetAndMetadata(1, "")})
    assert broker.group("group").committed == {tp: OffsetAndMetadata(1, "")}


async def test_a_commit_that_nobody_waits_for_any_more_takes_effect_all_the_same() -> None:
    broker = _broker(Slow())
    tp = TopicPartition("events", 0)
    async with member(broker.connection(), "group", "events") as reader:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.consumer.commit({tp: 1}), 1)
        before = dict(broker.group("group").committed)
        await reader.consumer.commit({tp: 2})
    assert (before, broker.group("group").committed) == ({}, {tp: OffsetAndMetadata(2, "")})


async def test_who_is_killed_by_a_fault_gets_no_reply_but_what_was_carried_out_stays() -> None:
    faults = KilledAtCommit()
    broker = _broker(faults)
    faults.connection = broker.connection()
    async with member(faults.connection, "group", "events") as reader:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.consumer.commit({TopicPartition("events", 0): 7}), 60)
    assert broker.group("group").committed[TopicPartition("events", 0)].offset == 7


async def test_while_the_broker_is_down_nobody_starts_and_whoever_runs_waits() -> None:
    broker = _broker()
    producer = broker.connection().producer(enable_idempotence=True)
    await producer.start()
    await producer.partitions_for("events")
    async with member(broker.connection(), "group", "events") as reader:
        broker.go_down()
        with pytest.raises(KafkaConnectionError):
            await broker.connection().consumer().start()
        delivery = await producer.send("events", b"late", partition=0)
        nothing = await reader.consumer.getmany(timeout_ms=60_000)
        with pytest.raises(KafkaTimeoutError):
            await reader.consumer.end_offsets([TopicPartition("events", 0)])
        waited = not delivery.done()
        broker.come_up()
        (record,) = await reader.read(1)
        told = [what for what, _ in reader.told]
    await producer.stop()
    assert (nothing, waited, record.value) == ({}, True, b"late")
    assert told == ["revoked", "assigned"]


async def test_a_topic_that_may_not_be_read_or_written_says_so() -> None:
    broker = _broker()
    producer = broker.connection().producer()
    await producer.start()
    broker.topics["events"].writable = False
    broker.append("events", b"secret")
    async with member(broker.connection(), "group", "events") as reader:
        broker.topics["events"].readable = False
        broker.append("events", b"another", partition=1)
        with pytest.raises(TopicAuthorizationFailedError):
            await (await producer.send("events", b"1"))
        with pytest.raises(TopicAuthorizationFailedError):
            await reader.read(2)
        broker.topics["events"].readable = True
        records = await reader.read(1)
    await producer.stop()
    assert records


async def test_what_retention_took_is_passed_over_and_so_are_gaps() -> None:
    broker = _broker(partitions=1)
    log = broker.log(TopicPartition("events", 0))
    for value in (b"0", b"1", b"2", b"3"):
        broker.append("events", value)
    log.remove([2])
    log.skip(5)
    log.truncate(1)
    async with member(broker.connection(), "group", "events") as reader:
        records = await reader.read(2)
        await reader.until(lambda: True)
        await reader.consumer.getmany(timeout_ms=100)
        position = await reader.consumer.position(TopicPartition("events", 0))
    assert [record.offset for record in records] == [1, 3]
    assert position == 9


async def test_partitions_of_a_topic_that_appears_later_are_assigned_then_and_taken_away_with_it() -> None:
    broker = MemoryBroker()
    async with member(broker.connection(), "group", "events") as reader:
        nothing = reader.partitions
        broker.create_topic("events", 3)
        await reader.until(lambda: reader.partitions == [0, 1, 2])
        broker.delete_topic("events")
        await reader.until(lambda: reader.partitions == [])
    assert nothing == []


async def test_a_topic_that_is_not_there_is_waited_for_only_so_long() -> None:
    producer = MemoryBroker().connection().producer(request_timeout_ms=1_000)
    await producer.start()
    with pytest.raises(UnknownTopicOrPartitionError):
        await producer.send("events", b"1")
    await producer.stop()


async def test_what_a_listener_raises_is_swallowed() -> None:
    broker = _broker()
    async with member(broker.connection(), "group", "events") as first:

        async def fail() -> None:
            raise ValueError("a defect")

        first.before_revocation = fail
        async with member(broker.connection(), "group", "events"):
            await first.until(lambda: len(first.partitions) == 1)
