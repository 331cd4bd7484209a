"""Publisher and readers as commands, the demo and tests use them."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from consumer.transport import clients
from consumer.transport import reader as reader_module
from consumer.transport.connection import Connection, TransportError
from consumer.transport.publisher import Publisher
from consumer.transport.reader import Message as Read
from consumer.transport.reader import Reader, read_reservations, read_topic
from tests.services import KafkaBroker
from tests.support.kafka import Kafka, Message, Names


@pytest.fixture
def connection(topics: Kafka) -> Connection:
    return Connection(topics.bootstrap_servers)


async def test_what_is_published_is_read_back_where_it_was_put(
    connection: Connection, topics: Kafka, names: Names
) -> None:
    headers = (("a", b"1"), ("a", None))
    async with Publisher(connection) as publisher:
        partition, offset = await publisher.send(names.inbound, b"v", key=b"k", headers=headers, partition=2)
    assert (partition, offset) == (2, 0)
    (message,) = topics.read(names.inbound)
    assert (message.value, message.key, message.headers) == (b"v", b"k", headers)
    async with Reader(connection, names.inbound) as reader:
        assert await reader.at(2, 0) == Read(names.inbound, 2, 0, message.timestamp_ms, b"k", b"v", headers)


async def test_following_from_the_end_begins_with_what_comes_next(
    connection: Connection, topics: Kafka, names: Names
) -> None:
    topics.publish(names.inbound, [Message(b"old", partition=partition) for partition in range(4)])
    async with Reader(connection, names.inbound) as reader:
        # Published before the first poll: what counts is when the reader was entered.
        topics.publish(names.inbound, [Message(b"new", partition=1)])
        async with aclosing(reader.follow(from_beginning=False)) as messages:
            assert (await anext(messages)).value == b"new"


async def test_following_from_the_beginning_has_both(connection: Connection, topics: Kafka, names: Names) -> None:
    topics.publish(names.inbound, [Message(b"old", partition=0)])
    async with aclosing(read_topic(connection, names.inbound, follow=True)) as messages:
        assert (await anext(messages)).value == b"old"
        topics.publish(names.inbound, [Message(b"new", partition=0)])
        assert (await anext(messages)).value == b"new"


async def test_what_is_there_ends_where_the_topic_ended_on_entering(
    connection: Connection, topics: Kafka, names: Names
) -> None:
    topics.publish(names.inbound, [Message(b"old", partition=0)])
    async with Reader(connection, names.inbound) as reader:
        topics.publish(names.inbound, [Message(b"new", partition=partition) for partition in (0, 1)])
        for _ in range(2):
            assert [message.value async for message in reader.stored()] == [b"old"]
        assert await reader.at(0, 1) is None
    assert len([message async for message in read_topic(connection, names.inbound)]) == 3


async def test_a_topic_that_appears_soon_is_waited_for(
    connection: Connection, topics: Kafka, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_APPEARING", 40.0)
    topic = f"late-{names.unique}"
    try:
        async with aclosing(read_topic(connection, topic, follow=True)) as messages:
            reading = asyncio.create_task(anext(messages))
            await asyncio.sleep(0.5)
            await asyncio.to_thread(topics.create, topic, partitions=1)
            await asyncio.to_thread(topics.publish, topic, [Message(b"v")])
            assert (await reading).value == b"v"
    finally:
        topics.forget(topic)


async def test_what_no_topic_can_hold_is_refused(connection: Connection, names: Names) -> None:
    async with Publisher(connection) as publisher:
        with pytest.raises(TransportError, match="without key and without value"):
            await publisher.send(names.inbound, None)
        with pytest.raises(TransportError, match="no partition 4"):
            await publisher.send(names.inbound, b"v", partition=4)
        with pytest.raises(TransportError, match="larger than the maximum"):
            await publisher.send(names.inbound, b"v" * (2 << 20))


async def test_states_that_cannot_be_read_do_not_hide_the_others(
    connection: Connection, topics: Kafka, names: Names
) -> None:
    topics.publish(names.state, [Message(b"{", b"1841"), Message(None, b"1842")])
    assert await read_reservations(connection, names.state) == {}


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_a_kafka_that_dies_while_it_is_read_is_given_up(
    start_kafka: Callable[..., KafkaBroker], names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await asyncio.to_thread(start_kafka)
    monkeypatch.setattr(reader_module, "PATIENCE", 1.0)
    with Kafka(broker.bootstrap_servers) as topics:
        await asyncio.to_thread(topics.create, names.inbound, partitions=1)
        topics.publish(names.inbound, [Message(b"v")])
        async with Reader(Connection(broker.bootstrap_servers), names.inbound) as reader:
            broker.kill()
            with pytest.raises(TransportError, match="No Kafka broker answers"):
                await reader.at(0, 0)
            with pytest.raises(TransportError, match="No Kafka broker answers"):
                await anext(reader.stored())
