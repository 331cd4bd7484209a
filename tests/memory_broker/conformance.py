"""What the double and the real thing have in common: each of these runs against both."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    MessageSizeTooLargeError,
    OffsetMetadataTooLargeError,
    OutOfOrderSequenceNumber,
)
from aiokafka.structs import OffsetAndMetadata

from consumer.transport.connection import Connection
from tests.memory_broker.member import GROUP_OPTIONS, member


class BrokerConformance:
    """Subclasses provide the fixture `connection`."""

    @pytest.fixture
    def name(self) -> str:
        """Of a topic, or a group, that no other test has."""
        return f"contract-{uuid.uuid4().hex[:8]}"

    @pytest.fixture
    async def admin(self, connection: Connection) -> AsyncIterator[Any]:
        admin = connection.admin()
        await admin.start()
        yield admin
        await admin.close()

    @pytest.fixture
    async def topic(self, admin: Any, name: str) -> AsyncIterator[str]:
        """Four partitions."""
        await admin.create_topics([NewTopic(name, 4, 1)])
        yield name
        await admin.delete_topics([name])

    @pytest.fixture
    async def producer(self, connection: Connection) -> AsyncIterator[Any]:
        producer = connection.producer(acks="all", enable_idempotence=True)
        await producer.start()
        yield producer
        await producer.stop()

    async def test_records_come_back_in_order_and_byte_for_byte(
        self, connection: Connection, producer: Any, topic: str
    ) -> None:
        headers = [("a", b"1"), ("a", None), ("é", b"")]
        sent = [(f"{number}".encode(), b"key" if number % 2 else None) for number in range(30)]
        deliveries = [await producer.send(topic, value, key, 2, headers=headers) for value, key in sent]
        offsets = [(await delivery).offset for delivery in deliveries]
        async with member(connection, topic, topic) as reader:
            records = await reader.read(30)
        assert offsets == list(range(30))
        assert [(record.value, record.key) for record in records] == sent
        assert [(record.topic, record.partition, record.offset) for record in records] == [
            (topic, 2, number) for number in range(30)
        ]
        assert {tuple(record.headers) for record in records} == {tuple(headers)}

    async def test_a_key_decides_the_partition(self, producer: Any, topic: str) -> None:
        keys = [f"key-{number}".encode() for number in range(8)]
        placed = [await (await producer.send(topic, b"", key)) for key in keys]
        assert [each.partition for each in placed] == [1, 0, 2, 3, 1, 0, 0, 3]

    async def test_a_batch_may_hold_a_record_without_key_and_value(
        self, connection: Connection, producer: Any, topic: str
    ) -> None:
        batch = producer.create_batch()
        batch.append(key=None, value=None, timestamp=None, headers=[("why", b"not")])
        await (await producer.send_batch(batch, topic, partition=1))
        async with member(connection, topic, topic) as reader:
            (record,) = await reader.read(1)
        assert (record.key, record.value, record.partition) == (None, None, 1)
        with pytest.raises(AssertionError):
            await producer.send(topic)

    async def test_partitions_that_were_not_named_wait_for_their_turn(
        self, connection: Connection, producer: Any, topic: str
    ) -> None:
        for partition in (0, 1):
            await producer.send(topic, b"", partition=partition)
        await producer.flush()
        async with member(connection, topic, topic) as reader:
            nothing = await reader.consumer.getmany(TopicPartition("", 0), timeout_ms=0)
            first: dict[Any, Any] = {}
            async with asyncio.timeout(40):
                while not first:
                    first = await reader.consumer.getmany(TopicPartition(topic, 1), timeout_ms=200)
            position = await reader.consumer.position(TopicPartition(topic, 0))
            second = await reader.read(1)
        assert nothing == {}
        assert list(first) == [TopicPartition(topic, 1)]
        assert position == 0
        assert [record.partition for record in second] == [0]

    async def test_a_poll_takes_no_more_than_it_asks_for_and_seeking_brings_it_back(
        self, connection: Connection, producer: Any, topic: str
    ) -> None:
        for _ in range(5):
            await producer.send(topic, b"", partition=0)
        await producer.flush()
        tp = TopicPartition(topic, 0)
        async with member(connection, topic, topic, max_poll_records=2) as reader:
            first = [record.offset for record in await reader.read(1)]
            reached = await reader.consumer.position(tp)
            reader.consumer.seek(tp, 1)
            rest = [record.offset for record in await reader.read(4)]
            with pytest.raises(IllegalStateError):
                reader.consumer.seek(TopicPartition(topic, 9), 1)
        assert (first, reached, rest) == ([0, 1], 2, [1, 2, 3, 4])

    async def test_a_position_out_of_range_begins_anew(self, connection: Connection, producer: Any, topic: str) -> None:
        await producer.send(topic, b"here", partition=0)
        await producer.flush()
        async with member(connection, topic, topic) as reader:
            await reader.read(1)
            reader.consumer.seek(TopicPartition(topic, 0), 1_000)
            records = await reader.read(1)
        assert [record.offset for record in records] == [0]

    async def test_partitions_named_by_hand_are_read_from_end_to_end(
        self, connection: Connection, producer: Any, topic: str
    ) -> None:
        for number in range(3):
            await producer.send(topic, f"{number}".encode(), partition=3)
        await producer.flush()
        tp = TopicPartition(topic, 3)
        reader = connection.consumer(enable_auto_commit=False, auto_offset_reset="earliest")
        await reader.start()
        unknown = reader.partitions_for_topic(topic)
        names = await reader.topics()
        reader.assign([tp])
        await reader.seek_to_beginning(tp)
        beginning, end = await reader.beginning_offsets([tp]), await reader.end_offsets([tp])
        values: list[bytes] = []
        async with asyncio.timeout(40):
            while await reader.position(tp) < end[tp]:
                found = await reader.getmany(tp, timeout_ms=200)
                values.extend(record.value for records in found.values() for record in records)
        await reader.stop()
        assert (unknown, reader.partitions_for_topic(topic)) == (None, {0, 1, 2, 3})
        assert topic in names
        assert (beginning, end) == ({tp: 0}, {tp: 3})
        assert values == [b"0", b"1", b"2"]

    async def test_what_was_committed_is_told_with_its_metadata(
        self, connection: Connection, admin: Any, producer: Any, topic: str
    ) -> None:
        for _ in range(3):
            await producer.send(topic, b"", partition=0)
        await producer.flush()
        first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
        async with member(connection, topic, topic) as reader:
            await reader.consumer.commit({first: OffsetAndMetadata(2, "as far as this")})
            with pytest.raises(OffsetMetadataTooLargeError):
                await reader.consumer.commit({first: OffsetAndMetadata(3, "x" * 4097)})
            committed = await reader.consumer.committed(first)
        told = await admin.list_consumer_group_offsets(topic, partitions=[first, second])
        async with member(connection, topic, topic) as successor:
            records = await successor.read(1)
        assert committed == 2
        assert told == {first: OffsetAndMetadata(2, "as far as this"), second: OffsetAndMetadata(-1, "")}
        assert [record.offset for record in records] == [2]

    async def test_partitions_are_shared_when_a_second_member_joins_and_given_back_when_it_leaves(
        self, connection: Connection, topic: str
    ) -> None:
        async with member(connection, topic, topic) as first:
            async with member(connection, topic, topic) as second:
                await first.until(lambda: len(first.told) == 4)
                await second.until(lambda: len(second.told) == 2)
                shares = sorted([first.partitions, second.partitions])
                told_to_second = list(second.told)
            await first.until(lambda: len(first.told) == 6)
            told_after_leaving = list(second.told)
        assert shares == [[0, 1], [2, 3]]
        half = first.told[3][1]
        assert first.told == [
            ("revoked", []),
            ("assigned", [0, 1, 2, 3]),
            ("revoked", [0, 1, 2, 3]),
            ("assigned", half),
            ("revoked", half),
            ("assigned", [0, 1, 2, 3]),
        ]
        assert told_to_second == [("revoked", []), ("assigned", [each for each in range(4) if each not in half])]
        assert told_after_leaving == told_to_second

    async def test_partitions_being_let_go_of_can_be_committed_and_their_new_owner_begins_there(
        self, connection: Connection, producer: Any, topic: str
    ) -> None:
        for partition in range(4):
            for _ in range(2):
                await producer.send(topic, b"", partition=partition)
        await producer.flush()
        async with member(connection, topic, topic) as first:

            async def commit() -> None:
                await first.consumer.commit({TopicPartition(topic, number): 1 for number in range(4)})

            first.before_revocation = commit
            async with member(connection, topic, topic) as second:
                records = await second.read(2)
            first.before_revocation = None
        assert [record.offset for record in records] == [1, 1]

    async def test_a_member_that_takes_too_long_to_let_go_may_not_commit_any_more(
        self, connection: Connection, topic: str
    ) -> None:
        refused: list[Exception] = []
        async with member(connection, topic, topic, rebalance_timeout_ms=1_000) as slow:

            async def dawdle() -> None:
                await asyncio.sleep(3)
                try:
                    await slow.consumer.commit({TopicPartition(topic, 0): 1})
                except (CommitFailedError, IllegalStateError) as error:
                    refused.append(error)

            slow.before_revocation = dawdle
            async with member(connection, topic, topic, rebalance_timeout_ms=1_000) as quick:
                alone = quick.partitions
                slow.before_revocation = None
                await quick.until(lambda: len(refused) == 1)
                await quick.until(lambda: len(quick.partitions) == 2)
        assert alone == [0, 1, 2, 3]

    async def test_after_a_record_that_is_too_large_the_partition_takes_nothing_more_from_this_producer(
        self, connection: Connection, admin: Any, producer: Any, name: str
    ) -> None:
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"max.message.bytes": "1000"})])
        try:
            await (await producer.send(name, b"small"))
            with pytest.raises(MessageSizeTooLargeError):
                await (await producer.send(name, b"x" * 2000))
            with pytest.raises(OutOfOrderSequenceNumber):
                await (await producer.send(name, b"small"))
            another = connection.producer(acks="all", enable_idempotence=True)
            await another.start()
            placed = await (await another.send(name, b"small"))
            await another.stop()
        finally:
            await admin.delete_topics([name])
        assert placed.offset == 1

    async def test_topics_are_described_and_created_only_once(self, admin: Any, topic: str) -> None:
        described = {each["topic"]: each for each in await admin.describe_topics()}
        again = await admin.create_topics([NewTopic(topic, 4, 1)])
        brokers = (await admin.describe_cluster())["brokers"]
        assert (described[topic]["error_code"], len(described[topic]["partitions"])) == (0, 4)
        assert [each[:2] for each in again.topic_errors] == [(topic, 36)]
        assert len(brokers) >= 1

    async def test_a_group_without_members_is_joined_by_options_of_its_own(
        self, connection: Connection, topic: str
    ) -> None:
        reader = connection.consumer(group_id=topic, **GROUP_OPTIONS)
        await reader.start()
        await reader.stop()
        assert reader.assignment() == frozenset()
