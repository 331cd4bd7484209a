"""The double of `AIOKafkaProducer`: it batches, sends one request at a time, and repeats it until it was answered."""

import asyncio
import copy
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    ProducerClosed,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata

from consumer.transport.memory.line import RETRY_BACKOFF, Line
from consumer.transport.memory.log import Headers, size_of

if TYPE_CHECKING:  # the broker makes connections, which make this
    from consumer.transport.memory.broker import MemoryBroker

_partition_of = DefaultPartitioner()

Delivery = asyncio.Future[RecordMetadata]


class MemoryBatch:
    """The double of aiokafka's `BatchBuilder`, and what this producer gathers its own records in."""

    def __init__(self, max_size: int) -> None:
        self.records: list[tuple[int | None, bytes | None, bytes | None, Headers]] = []
        self.deliveries: list[Delivery] = []
        self.sent = asyncio.Event()
        self.sequence: int | None = None
        self._max_size = max_size
        self._size = 0

    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> object | None:
        """None when there is no room, or the batch is on its way already; the first record always has room."""
        size = size_of(key, value, tuple(headers))
        if self.sequence is not None or (self.records and self._size + size > self._max_size):
            return None
        self.records.append((timestamp, key, value, tuple(headers)))
        self._size += size
        return self

    def deliver(self, tp: TopicPartition, first: int) -> None:
        for number, delivery in enumerate(self.deliveries):
            if not delivery.done():
                delivery.set_result(RecordMetadata(tp.topic, tp.partition, tp, first + number, -1, 0, 0))

    def fail(self, error: KafkaError) -> None:
        for delivery in self.deliveries:
            if not delivery.done():
                delivery.set_exception(copy.copy(error))


class MemoryProducer:
    """Publishes records. Idempotent when asked to be: then nothing is stored twice, and in order for each partition."""

    def __init__(
        self,
        broker: "MemoryBroker",
        line: Line,
        *,
        acks: int | str = 1,
        enable_idempotence: bool = False,
        request_timeout_ms: int = 40_000,
        max_request_size: int = 1_048_576,
        max_batch_size: int = 16_384,
        linger_ms: int = 0,
    ) -> None:
        self._broker = broker
        self._line = line
        self._idempotent = enable_idempotence
        self._timeout = request_timeout_ms / 1000
        self._max_request_size = max_request_size
        self._max_batch_size = max_batch_size
        self._id = 0
        self._sequences: dict[TopicPartition, int] = {}
        self._known: dict[str, int] = {}
        self._batches: dict[TopicPartition, deque[MemoryBatch]] = {}
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        await self._line.request("connect", lambda: None, self._timeout)
        while self._idempotent and not self._id:
            try:
                self._id = await self._line.request("metadata", self._broker.new_producer_id, self._timeout)
            except KafkaError:
                await asyncio.sleep(RETRY_BACKOFF)
        self._task = self._line.start(self._send_batches(), "producing")

    async def stop(self) -> None:
        """Send what is left, however long that takes."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None:
            await self._idle.wait()
            self._task.cancel()
            await asyncio.wait([self._task])

    async def partitions_for(self, topic: str) -> set[int]:
        """Raises `UnknownTopicOrPartitionError` for a topic that did not appear in time."""
        if topic not in self._known:
            self._known[topic] = await self._look_up(topic)
        return set(range(self._known[topic]))

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] | None = None,
    ) -> Delivery:
        """Hand a record over; the future says where it lies once it is there.

        Raises `MessageSizeTooLargeError`, or `KafkaTimeoutError` when there is no room for too long.
        """
        assert not (value is None and key is None), "Need at least one: key or value"  # noqa: S101 - as aiokafka does
        partitions = sorted(await self.partitions_for(topic))
        if size_of(key, value, tuple(headers or ())) > self._max_request_size:
            raise MessageSizeTooLargeError("The message is larger than max_request_size")
        if partition is None:
            partition = _partition_of(key, partitions, partitions)
        assert partition in partitions, "Unrecognized partition"  # noqa: S101 - as aiokafka does
        tp = TopicPartition(topic, partition)
        end = asyncio.get_running_loop().time() + self._timeout
        while True:
            if self._closed:
                raise ProducerClosed
            waiting = self._batches.get(tp)
            batch = waiting[-1] if waiting else self._enqueue(tp, self.create_batch())
            if batch.append(timestamp=timestamp_ms, key=key, value=value, headers=headers or ()) is not None:
                batch.deliveries.append(asyncio.get_running_loop().create_future())
                return batch.deliveries[-1]
            await self._until_sent(batch, end)

    async def send_and_wait(self, topic: str, value: bytes | None = None, key: bytes | None = None) -> RecordMetadata:
        return await (await self.send(topic, value, key))

    def create_batch(self) -> MemoryBatch:
        return MemoryBatch(self._max_batch_size)

    async def send_batch(self, batch: MemoryBatch, topic: str, *, partition: int) -> Delivery:
        """Hand a batch over; the future says where its first record lies."""
        partitions = await self.partitions_for(topic)
        assert partition in partitions, "Unrecognized partition"  # noqa: S101 - as aiokafka does
        tp = TopicPartition(topic, partition)
        end = asyncio.get_running_loop().time() + self._timeout
        while waiting := self._batches.get(tp):
            await self._until_sent(waiting[-1], end)
        if self._closed:
            raise ProducerClosed
        batch.deliveries.append(asyncio.get_running_loop().create_future())
        self._enqueue(tp, batch)
        return batch.deliveries[0]

    async def flush(self) -> None:
        await self._idle.wait()

    def _enqueue(self, tp: TopicPartition, batch: MemoryBatch) -> MemoryBatch:
        self._batches.setdefault(tp, deque()).append(batch)
        self._filled.set()
        self._idle.clear()
        return batch

    async def _until_sent(self, batch: MemoryBatch, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                await batch.sent.wait()
        except TimeoutError:
            raise KafkaTimeoutError from None

    async def _look_up(self, topic: str) -> int:
        end = asyncio.get_running_loop().time() + self._timeout
        while True:
            try:
                found = await self._line.request("metadata", lambda: self._broker.topics.get(topic), self._timeout)
            except KafkaError:
                found = None
            if found is not None:
                return len(found.partitions)
            if asyncio.get_running_loop().time() > end:
                raise UnknownTopicOrPartitionError(topic)
            await asyncio.sleep(RETRY_BACKOFF)

    # The task

    async def _send_batches(self) -> None:
        while True:
            await self._filled.wait()
            sending = {tp: self._next(tp) for tp in list(self._batches)}
            again = await self._send_all(sending)
            if again:
                await asyncio.sleep(RETRY_BACKOFF)
            for tp, batch in again.items():
                batch.sent.clear()
                self._batches.setdefault(tp, deque()).appendleft(batch)
            if not self._batches:
                self._filled.clear()
                self._idle.set()

    def _next(self, tp: TopicPartition) -> MemoryBatch:
        batch = self._batches[tp].popleft()
        if not self._batches[tp]:
            del self._batches[tp]
        if batch.sequence is None:
            # Used up whether the batch gets there or not: after one that did not, the partition takes none any more.
            batch.sequence = self._sequences.get(tp, 0)
            self._sequences[tp] = batch.sequence + len(batch.records)
        batch.sent.set()
        return batch

    async def _send_all(self, sending: dict[TopicPartition, MemoryBatch]) -> dict[TopicPartition, MemoryBatch]:
        """Send one request; returns what has to be sent again."""
        try:
            replies = await self._line.request("produce", lambda: self._apply(sending), self._timeout)
        except KafkaError as error:
            replies = dict.fromkeys(sending, error)
        again = {}
        for tp, reply in replies.items():
            if isinstance(reply, int):
                sending[tp].deliver(tp, reply)
            elif reply.retriable:
                again[tp] = sending[tp]
            else:
                sending[tp].fail(reply)
        return again

    def _apply(self, sending: dict[TopicPartition, MemoryBatch]) -> dict[TopicPartition, int | KafkaError]:
        replies: dict[TopicPartition, int | KafkaError] = {}
        for tp, batch in sending.items():
            try:
                replies[tp] = self._broker.produce(tp, batch.records, self._id, batch.sequence or 0)
            except KafkaError as error:
                replies[tp] = error
        return replies
