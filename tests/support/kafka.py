"""Kafka as seen by somebody else: librdkafka, not the client that Moorage uses."""

import itertools
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.cimpl import NewTopic

from tests.support.waiting import eventually

Headers = tuple[tuple[str, bytes | None], ...]

_SECONDS = 30.0


@dataclass(frozen=True)
class Names:
    """Topics, group and instance that no other test has."""

    unique: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def inbound(self) -> str:
        return f"events-{self.unique}"

    @property
    def outbound(self) -> str:
        return f"outbound-{self.unique}"

    @property
    def state(self) -> str:
        return f"state-{self.unique}"

    @property
    def dead_letters(self) -> str:
        return f"dead-letters-{self.unique}"

    @property
    def group(self) -> str:
        return f"group-{self.unique}"

    @property
    def instance(self) -> str:
        return f"test-{self.unique}"

    @property
    def topics(self) -> tuple[str, str, str, str]:
        return self.inbound, self.outbound, self.state, self.dead_letters


@dataclass(frozen=True)
class Message:
    """One record to publish, or as it lies in a topic. Without `partition` the key decides."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    offset: int = -1
    timestamp_ms: int = 0

    def header(self, name: str) -> str | None:
        return next((value.decode() for each, value in reversed(self.headers) if each == name and value), None)


class Kafka:
    """Topics, records and committed offsets of one cluster."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        # 0 to 7 as in syslog: brokers that are stopped on purpose are no news.
        common: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "log_level": 0}
        self._members: dict[str, Consumer] = {}
        self._common = common
        self._admin = AdminClient(common)
        self._producer = Producer(
            common
            | {
                "partitioner": "murmur2_random",
                "acks": "all",
                "enable.idempotence": True,  # a broker that is killed on purpose shall not make two records of one
                "linger.ms": 2,
                "message.max.bytes": 8 << 20,
            }
        )
        self._consumer = Consumer(
            common
            | {
                "group.id": f"verifier-{uuid.uuid4().hex[:8]}",
                "enable.auto.commit": False,
                "enable.partition.eof": False,
                "auto.offset.reset": "earliest",  # where a topic was truncated, its beginning is not 0
                "fetch.wait.max.ms": 20,
                "fetch.message.max.bytes": 8 << 20,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for consumer in (self._consumer, *self._members.values()):
            consumer.close()

    def create(self, *topics: str, partitions: int = 8) -> None:
        made = self._admin.create_topics([NewTopic(topic, partitions) for topic in topics])
        for done in made.values():
            done.result(_SECONDS)
        eventually(lambda: all(len(self.ends(topic)) == partitions for topic in topics), what=f"{topics} exist")

    def configure(self, topic: str, **settings: str) -> None:
        """Set properties of a topic, written with underscores."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in settings.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        for done in self._admin.incremental_alter_configs([resource]).values():
            done.result(_SECONDS)

    def delete(self, *topics: str) -> None:
        there = self._admin.list_topics(timeout=_SECONDS).topics
        for done in self._admin.delete_topics([topic for topic in topics if topic in there] or ["-"]).values():
            done.exception(_SECONDS)
        eventually(lambda: not any(map(self.partitions, topics)), what=f"{topics} are gone")

    def forget(self, *topics: str) -> None:
        """Delete what is there, if the cluster still answers."""
        with suppress(KafkaException):
            there = self._admin.list_topics(timeout=2).topics
            if mine := [topic for topic in topics if topic in there]:
                self._admin.delete_topics(mine)[mine[0]].exception(2)

    def publish(self, topic: str, messages: Iterable[Message]) -> list[Message]:
        """Publish in order; returns the messages with the places they got."""
        placed: list[Message] = []
        failures: list[object] = []

        def delivered(error: Any, made: Any, *, message: Message) -> None:
            failures.extend([error] if error else [])
            placed.append(
                Message(
                    message.value, message.key, message.headers, made.partition(), made.offset(), made.timestamp()[1]
                )
            )

        for message in messages:
            self._producer.produce(
                topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                partition=-1 if message.partition is None else message.partition,
                on_delivery=partial(delivered, message=message),
            )
        left = self._producer.flush(_SECONDS)
        assert left == 0, f"{left} records could not be published to {topic}"
        assert failures == []
        return placed

    def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record, by partition; empty for a topic that does not exist."""
        return {
            partition: _patiently(
                self._consumer.get_watermark_offsets, TopicPartition(topic, partition), timeout=_SECONDS
            )[1]
            for partition in self.partitions(topic)
        }

    def partitions(self, topic: str) -> set[int]:
        """Empty for a topic that does not exist."""
        described = _patiently(self._admin.list_topics, topic, timeout=_SECONDS).topics[topic]
        return set() if described.error else set(described.partitions)

    def count(self, topic: str) -> int:
        return sum(self.ends(topic).values())

    def read(self, topic: str) -> list[Message]:
        """All records that are there now, partition by partition in order."""
        ends = {partition: end for partition, end in self.ends(topic).items() if end}
        found: dict[int, list[Message]] = {partition: [] for partition in ends}
        positions = dict.fromkeys(ends, 0)
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])

        def take() -> bool:
            for record in self._consumer.consume(500, timeout=0.2):
                assert record.error() is None, record.error()
                found[record.partition() or 0].append(_message(record))
            for place in self._consumer.position([TopicPartition(topic, partition) for partition in ends]):
                positions[place.partition] = max(place.offset, 0)
            return all(positions[partition] >= end for partition, end in ends.items())

        eventually(take, what=f"{topic} is read", every=0)
        self._consumer.unassign()
        return list(itertools.chain.from_iterable(found.values()))

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's committed offset, by partition; partitions without one are left out."""
        if group not in self._members:  # asks for the group's offsets without ever joining it
            self._members[group] = Consumer(self._common | {"group.id": group, "enable.auto.commit": False})
        partitions = [TopicPartition(topic, partition) for partition in self.partitions(topic)]
        places = _patiently(self._members[group].committed, partitions, timeout=_SECONDS)
        return {place.partition: place.offset for place in places if place.offset >= 0}

    def lag(self, group: str, topic: str) -> dict[int, int]:
        """How many records the group has not committed, by partition; those without lag are left out."""
        committed = self.committed(group, topic)
        lags = {partition: end - committed.get(partition, 0) for partition, end in self.ends(topic).items()}
        return {partition: lag for partition, lag in lags.items() if lag}


def _patiently(ask: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """What `ask` returns, asked again while brokers are away or have not agreed on leaders yet."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return ask(*arguments, timeout=2)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _message(record: Any) -> Message:
    headers = tuple(record.headers() or ())
    return Message(record.value(), record.key(), headers, record.partition(), record.offset(), record.timestamp()[1])
