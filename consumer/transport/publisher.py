"""Publishing single records and waiting for each: for commands, tests and the demo. The service has the outbox."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any, Self

from aiokafka.errors import KafkaError

from consumer.transport.clients import PATIENCE, NoAnswer, partitions_of, running
from consumer.transport.connection import Connection, TransportError
from schemas.deadletter import Header


class Publisher:
    """An idempotent producer that waits for all in-sync replicas. Entering it raises `TransportError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stack = AsyncExitStack()
        self._producer: Any = None
        self._partitions: dict[str, frozenset[int] | TransportError] = {}

    async def __aenter__(self) -> Self:
        self._producer = await self._stack.enter_async_context(
            running(self._connection.producer, self._connection, acks="all", enable_idempotence=True)
        )
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._stack.aclose()

    async def partitions(self, topic: str) -> frozenset[int]:
        """The partitions of `topic`, looked up once. Raises `TransportError` when there is no such topic."""
        if topic not in self._partitions:
            try:
                self._partitions[topic] = await partitions_of(self._connection, topic)
            except NoAnswer:
                raise
            except TransportError as error:
                self._partitions[topic] = error
        known = self._partitions[topic]
        if isinstance(known, TransportError):
            raise known
        return known

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Iterable[Header] = (),
        partition: int | None = None,
    ) -> tuple[int, int]:
        """Publish one record and return where it lies: partition and offset. Without `partition` the key decides.

        Raises `TransportError` when it was not acknowledged, in which case it may or may not be there.
        """
        if value is None and key is None:
            raise TransportError(f"Not published to {topic}: a record without key and without value says nothing.")
        known = await self.partitions(topic)
        if partition is not None and partition not in known:
            raise TransportError(f"Not published: {topic} has no partition {partition}.")
        try:
            async with asyncio.timeout(PATIENCE):
                delivery = await self._producer.send(topic, value, key, partition, headers=list(headers))
                placed = await delivery
        except TimeoutError as error:
            raise NoAnswer(
                f"Not acknowledged: {topic} is silent for {PATIENCE:g} s. The record may be there all the same."
            ) from error
        except KafkaError as error:
            raise TransportError(f"Not published to {topic}: {error}") from error
        return placed.partition, placed.offset
