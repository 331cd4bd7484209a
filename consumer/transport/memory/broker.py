"""The broker: topics, groups, and whether it answers at all."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition
from aiokafka.errors import (
    BrokerResponseError,
    InvalidPartitionsError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from consumer.transport.memory.connection import MemoryConnection
from consumer.transport.memory.groups import Group
from consumer.transport.memory.line import Faults, Line
from consumer.transport.memory.log import Headers, PartitionLog, StoredRecord, Topic, size_of

_EPOCH_MS = 1_700_000_000_000
"""When the event loop's clock began, as far as timestamps are concerned: the same in every run."""


class MemoryBroker:
    """One node of Kafka. Its methods are for tests: they look and act at once, from outside, whatever its state."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.topics: dict[str, Topic] = {}
        self.appended: set[asyncio.Event] = set()
        """Set whenever there may be something new to fetch; for clients that wait for it."""

        self._groups: dict[str, Group] = {}
        self._up = True
        self._clients = itertools.count(1)
        self._producers = itertools.count(1)

    # Topics

    def create_topic(self, name: str, partitions: int = 1, **configs: str) -> Topic:
        """Of the `configs`, only `max.message.bytes` has an effect.

        Raises `TopicAlreadyExistsError` or `InvalidPartitionsError`.
        """
        if name in self.topics:
            raise TopicAlreadyExistsError(name)
        if partitions < 1:
            raise InvalidPartitionsError(name)
        logs = [PartitionLog() for _ in range(partitions)]
        self.topics[name] = topic = Topic(name, logs, configs)
        self._topics_changed(name)
        return topic

    def delete_topic(self, name: str) -> None:
        """Raises `UnknownTopicOrPartitionError`."""
        if name not in self.topics:
            raise UnknownTopicOrPartitionError(name)
        del self.topics[name]
        self._topics_changed(name)

    def log(self, tp: TopicPartition) -> PartitionLog:
        """The log of one partition. Raises `UnknownTopicOrPartitionError`."""
        topic = self.topics.get(tp.topic)
        if topic is None or not 0 <= tp.partition < len(topic.partitions):
            raise UnknownTopicOrPartitionError(f"{tp.topic}/{tp.partition}")
        log: PartitionLog = topic.partitions[tp.partition]
        return log

    def append(
        self, topic: str, value: bytes | None, key: bytes | None = None, headers: Headers = (), *, partition: int = 0
    ) -> StoredRecord:
        """Put a record into a topic, as somebody else's producer does."""
        record = self.log(TopicPartition(topic, partition)).append(self.now_ms(), key, value, headers)
        self.wake_fetchers()
        return record

    def wake_fetchers(self) -> None:
        """Have clients look again; for who changed a log by hand."""
        for event in self.appended:
            event.set()

    def now_ms(self) -> int:
        return _EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)

    # Groups

    def group(self, name: str) -> Group:
        if name not in self._groups:
            self._groups[name] = Group(name)
        return self._groups[name]

    # Connections

    @property
    def up(self) -> bool:
        return self._up

    def go_down(self) -> None:
        """Answer nobody. What is stored stays."""
        self._up = False
        for group in self._groups.values():
            group.lose_connections()

    def come_up(self) -> None:
        self._up = True
        for group in self._groups.values():
            group.resume()
        self.wake_fetchers()

    def connection(self, client_id: str | None = None) -> MemoryConnection:
        """A way to reach this broker for the clients of one process."""
        name = client_id or f"client-{next(self._clients)}"
        return MemoryConnection("memory:9092", client_id=name, broker=self, line=Line(self, name))

    # What clients request

    def new_producer_id(self) -> int:
        return next(self._producers)

    def produce(
        self,
        tp: TopicPartition,
        records: Sequence[tuple[int | None, bytes | None, bytes | None, Headers]],
        producer: int,
        sequence: int,
    ) -> int:
        """Append a batch of (timestamp, key, value, headers) once, however often it is sent; its first offset.

        A `producer` of 0 is not idempotent.
        """
        log, topic = self.log(tp), self.topics[tp.topic]
        if not topic.writable:
            raise TopicAuthorizationFailedError(tp.topic)
        if sum(size_of(key, value, headers) for _, key, value, headers in records) > topic.max_message_bytes:
            raise MessageSizeTooLargeError(tp.topic)
        if producer:
            # A partition that never saw this producer takes any number from it.
            last, following, stored_at = topic.sequences.get((producer, tp.partition), (-1, sequence, -1))
            if sequence == last:
                return stored_at
            if sequence != following:
                raise OutOfOrderSequenceNumber(f"{sequence} of producer {producer}, expected {following}")
            topic.sequences[producer, tp.partition] = sequence, sequence + len(records), log.end
        first = log.end
        for timestamp, key, value, headers in records:
            log.append(self.now_ms() if timestamp is None else timestamp, key, value, headers)
        self.wake_fetchers()
        return first

    def fetch(
        self, positions: Mapping[TopicPartition, int], max_bytes: int
    ) -> dict[TopicPartition, tuple[list[StoredRecord], int] | BrokerResponseError]:
        """What lies at these positions and where to read on, or why it cannot be read."""
        found: dict[TopicPartition, tuple[list[StoredRecord], int] | BrokerResponseError] = {}
        for tp, position in positions.items():
            try:
                log = self.log(tp)
                if not self.topics[tp.topic].readable:
                    raise TopicAuthorizationFailedError(tp.topic)
                found[tp] = log.read(position, max_bytes)
            except BrokerResponseError as error:
                found[tp] = error
        return found

    def has_news(self, tp: TopicPartition, position: int) -> bool:
        """Whether fetching from this position would return something, be it an error."""
        try:
            log = self.log(tp)
        except UnknownTopicOrPartitionError:
            return True
        return not log.start <= position <= log.end or position < log.end

    def _topics_changed(self, name: str) -> None:
        for group in self._groups.values():
            if group.reads(name):
                group.topics_changed()
