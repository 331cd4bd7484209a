"""Topics and groups that exist as long as a measurement does."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

_POLL_SECONDS = 0.01

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it complains of every topic that is younger than a second


class Topics:
    """Creates topics with names of their own, fills them, and watches how far groups have committed."""

    def __init__(self, bootstrap: str, admin: AIOKafkaAdminClient) -> None:
        self.bootstrap = bootstrap
        self._admin = admin
        self._created: dict[str, int] = {}

    async def create(self, word: str, partitions: int, **configs: str) -> str:
        """A new topic, deleted with all others at the end; returns its name."""
        name = unique(word)
        await self._admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        self._created[name] = partitions
        while not await self._led(name, partitions):  # noqa: ASYNC110 - there is nothing that tells
            await asyncio.sleep(0.05)
        return name

    async def fill(self, topic: str, messages: Iterable[tuple[bytes, bytes]]) -> dict[int, int]:
        """Produce (key, value) messages in order; how many each partition has got."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True, linger_ms=5)
        await producer.start()
        try:
            sent = [await producer.send(topic, value, key) for key, value in messages]
            counts: dict[int, int] = {}
            for each in await asyncio.gather(*sent):
                counts[each.partition] = counts.get(each.partition, 0) + 1
        finally:
            await producer.stop()
        return counts

    async def size(self, topic: str) -> int:
        """How many messages were ever written to one of these topics (which see no transactions)."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            ends = await consumer.end_offsets([TopicPartition(topic, each) for each in range(self._created[topic])])
        finally:
            await consumer.stop()
        return sum(ends.values())

    async def committed(self, group: str, topic: str, counts: dict[int, int], *, timeout: float) -> None:
        """Return once the group has committed that many records of each partition. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while True:
                offsets = await self._admin.list_consumer_group_offsets(group)
                done = {tp.partition: each.offset for tp, each in offsets.items() if tp.topic == topic}
                if all(done.get(partition, 0) >= count for partition, count in counts.items()):
                    return
                await asyncio.sleep(_POLL_SECONDS)

    async def delete(self, topic: str) -> None:
        del self._created[topic]
        await self._admin.delete_topics([topic])

    async def clear(self) -> None:
        if self._created:
            with suppress(KafkaError):
                await self._admin.delete_topics(list(self._created))

    async def _led(self, name: str, partitions: int) -> bool:
        described = await self._admin.describe_topics([name])
        found = [each for topic in described for each in topic["partitions"] if each["leader"] >= 0]
        return len(found) == partitions


@asynccontextmanager
async def topics_on(bootstrap: str) -> AsyncIterator[Topics]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    topics = Topics(bootstrap, admin)
    try:
        yield topics
    finally:
        await topics.clear()
        await admin.close()


def unique(word: str) -> str:
    return f"bench-{word.lower()}-{uuid.uuid4().hex[:8]}"
