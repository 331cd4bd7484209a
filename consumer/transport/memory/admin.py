"""The double of `AIOKafkaAdminClient`."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource
from aiokafka.errors import BrokerResponseError
from aiokafka.structs import OffsetAndMetadata

from consumer.transport.memory.line import Line

if TYPE_CHECKING:  # the broker makes connections, which make this
    from consumer.transport.memory.broker import MemoryBroker

_NEVER_COMMITTED = OffsetAndMetadata(-1, "")


class MemoryAdmin:
    """Creates, describes and deletes topics, and tells what groups committed."""

    def __init__(self, broker: "MemoryBroker", line: Line, *, request_timeout_ms: int = 40_000) -> None:
        self._broker = broker
        self._line = line
        self._timeout = request_timeout_ms / 1000

    async def start(self) -> None:
        await self._line.request("connect", lambda: None, self._timeout)

    async def close(self) -> None:
        """Nothing is left open."""

    async def describe_topics(self, topics: Iterable[str] | None = None) -> list[dict[str, Any]]:
        return await self._line.request("metadata", lambda: self._describe(topics), self._timeout)

    async def list_topics(self) -> list[str]:
        return [topic["topic"] for topic in await self.describe_topics()]

    async def describe_cluster(self) -> dict[str, Any]:
        brokers = [{"node_id": 1, "host": "memory", "port": 9092, "rack": None}]
        return await self._line.request("metadata", lambda: {"brokers": brokers, "controller_id": 1}, self._timeout)

    async def describe_configs(self, config_resources: Sequence[ConfigResource]) -> list[SimpleNamespace]:
        """The settings that are asked for, as the topics were given them."""
        return await self._line.request(
            "metadata",
            lambda: [SimpleNamespace(resources=[self._configs(each)]) for each in config_resources],
            self._timeout,
        )

    async def create_topics(self, new_topics: Sequence[NewTopic]) -> SimpleNamespace:
        """Errors come in the reply, by topic, not as exceptions."""
        return await self._line.request(
            "create_topics",
            lambda: SimpleNamespace(topic_errors=[(new.name, *self._create(new)) for new in new_topics]),
            self._timeout,
        )

    async def delete_topics(self, topics: Sequence[str]) -> SimpleNamespace:
        """Errors come in the reply, by topic, not as exceptions."""
        return await self._line.request(
            "delete_topics",
            lambda: SimpleNamespace(topic_error_codes=[(name, self._delete(name)) for name in topics]),
            self._timeout,
        )

    async def list_consumer_group_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Of all partitions the group committed, or of these; an offset of -1 where it never did."""

        def offsets() -> dict[TopicPartition, OffsetAndMetadata]:
            committed = self._broker.group(group_id).committed
            if partitions is None:
                return dict(committed)
            return {TopicPartition(*tp): committed.get(tp, _NEVER_COMMITTED) for tp in partitions}

        return await self._line.request("fetch_offsets", offsets, self._timeout)

    def _configs(self, asked: ConfigResource) -> tuple[int, str, int, str, list[tuple[str, str | None]]]:
        topic = self._broker.topics.get(asked.name)
        entries = [(name, topic.configs.get(name)) for name in asked.configs or ()] if topic else []
        return (0 if topic else 3), "", int(asked.resource_type), asked.name, entries

    def _describe(self, topics: Iterable[str] | None) -> list[dict[str, Any]]:
        names = self._broker.topics if topics is None else topics
        return [self._describe_topic(name) for name in names]

    def _describe_topic(self, name: str) -> dict[str, Any]:
        topic = self._broker.topics.get(name)
        partitions = [
            {"error_code": 0, "partition": number, "leader": 1, "replicas": [1], "isr": [1]}
            for number in range(len(topic.partitions) if topic else 0)
        ]
        return {"error_code": 0 if topic else 3, "topic": name, "is_internal": False, "partitions": partitions}

    def _create(self, new: NewTopic) -> tuple[int, str | None]:
        try:
            self._broker.create_topic(new.name, new.num_partitions, **new.topic_configs)
        except BrokerResponseError as error:
            return error.errno, str(error)
        return 0, None

    def _delete(self, name: str) -> int:
        try:
            self._broker.delete_topic(name)
        except BrokerResponseError as error:
            return int(error.errno)
        return 0
