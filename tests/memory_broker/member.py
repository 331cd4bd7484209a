"""A consumer in a group, and what its listener was told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from consumer.transport.connection import Connection

GROUP_OPTIONS: dict[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "partition_assignment_strategy": (RangePartitionAssignor,),
    "session_timeout_ms": 6_000,
    "heartbeat_interval_ms": 200,
    "fetch_max_wait_ms": 50,
}


class Member(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self.told: list[tuple[str, list[int]]] = []
        """(`assigned` or `revoked`, the partitions), in order."""

        self.before_revocation: Callable[[], Awaitable[None]] | None = None

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.told.append(("revoked", _numbers(revoked)))
        if self.before_revocation is not None:
            await self.before_revocation()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.told.append(("assigned", _numbers(assigned)))

    @property
    def partitions(self) -> list[int]:
        return _numbers(self.consumer.assignment())

    async def read(self, count: int) -> list[Any]:
        """At least so many records, in the order of arrival."""
        found: list[Any] = []
        async with asyncio.timeout(40):
            while len(found) < count:
                for records in (await self.consumer.getmany(timeout_ms=200)).values():
                    found.extend(records)
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Poll until this holds."""
        async with asyncio.timeout(40):
            while not condition():
                await self.consumer.getmany(TopicPartition("", 0), timeout_ms=0)
                await asyncio.sleep(0.05)


@asynccontextmanager
async def member(connection: Connection, group: str, topic: str, **options: Any) -> AsyncIterator[Member]:
    """A member that has joined, until the block is left."""
    joined = Member(connection.consumer(group_id=group, **GROUP_OPTIONS | options))
    await joined.consumer.start()
    try:
        joined.consumer.subscribe([topic], listener=joined)
        await joined.until(lambda: bool(joined.told))
        yield joined
    finally:
        await joined.consumer.stop()


def _numbers(partitions: Iterable[TopicPartition]) -> list[int]:
    return sorted(tp.partition for tp in partitions)
