"""Reading a topic as it lies there, without a group: nothing is committed and nobody's consumption is disturbed."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from consumer.handling.sealed import Sealed
from consumer.transport.clients import PATIENCE, no_answer, partitions_of, running
from consumer.transport.connection import Connection, TransportError
from consumer.transport.restoring import read_states
from schemas.deadletter import Header
from schemas.state import ReservationState

_POLL_MS = 250
_STATES_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    """One record, byte for byte. `timestamp_ms` is Unix milliseconds, -1 for none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()

    def header(self, name: str) -> str | None:
        """The text of the last header of this name."""
        values = [value for each, value in self.headers if each == name and value is not None]
        return values[-1].decode("utf-8", "replace") if values else None


class Reader:
    """Reads one topic. Where it begins and ends is captured on entering, which raises `TransportError`."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._stack = AsyncExitStack()
        self._consumer: Any = None
        self._begins: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        connection = self._connection
        partitions = await partitions_of(connection, self._topic)
        async with self._stack as stack:
            self._consumer = await stack.enter_async_context(
                running(connection.consumer, connection, enable_auto_commit=False, auto_offset_reset="earliest")
            )
            tps = [TopicPartition(self._topic, partition) for partition in sorted(partitions)]
            self._consumer.assign(tps)
            self._begins = await self._consumer.beginning_offsets(tps)
            self._ends = await self._consumer.end_offsets(tps)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._stack.aclose()

    async def stored(self) -> AsyncGenerator[Message, None]:
        """Everything that was there on entering, partition by partition in order. May be asked for repeatedly."""
        behind = self._go_to({tp: begin for tp, begin in self._begins.items() if begin < self._ends[tp]})
        last_progress = asyncio.get_running_loop().time()
        while behind:
            for message in await self._poll(behind):
                if message.offset < self._ends[TopicPartition(message.topic, message.partition)]:
                    yield message
            now = {tp: await self._consumer.position(tp) for tp in behind}
            if now != behind:
                last_progress = asyncio.get_running_loop().time()
            elif asyncio.get_running_loop().time() - last_progress > PATIENCE:
                raise no_answer(self._connection)
            behind = {tp: position for tp, position in now.items() if position < self._ends[tp]}

    async def follow(self, *, from_beginning: bool) -> AsyncGenerator[Message, None]:
        """Everything that comes after entering, without end; with `from_beginning` what was there before it first.

        Once it began, brokers that go away are waited for.
        """
        positions = self._go_to(self._begins if from_beginning else self._ends)
        while True:
            for message in await self._poll(positions):
                yield message

    async def at(self, partition: int, offset: int) -> Message | None:
        """The record at this place, or None when there is none."""
        tp = TopicPartition(self._topic, partition)
        if not self._begins.get(tp, 0) <= offset < self._ends.get(tp, 0):
            return None
        positions = self._go_to({tp: offset})
        try:
            async with asyncio.timeout(PATIENCE):
                while await self._consumer.position(tp) == offset:
                    for message in await self._poll(positions, limit=1):
                        return message if message.offset == offset else None
        except TimeoutError as error:
            raise no_answer(self._connection) from error
        return None

    def _go_to(self, positions: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Assign only these partitions, so that no others are fetched, and begin at these offsets."""
        if positions:  # a consumer of nothing does not stop
            self._consumer.assign(list(positions))
        for tp, offset in positions.items():
            self._consumer.seek(tp, offset)
        return positions

    async def _poll(self, partitions: Iterable[TopicPartition], limit: int | None = None) -> list[Message]:
        try:
            batches = await self._consumer.getmany(*partitions, timeout_ms=_POLL_MS, max_records=limit)
        except KafkaError as error:
            raise TransportError(f"Reading {self._topic} failed: {error}") from error
        return [
            Message(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
            for records in batches.values()
            for r in records
        ]


async def read_topic(
    connection: Connection, topic: str, *, follow: bool = False, from_beginning: bool = True
) -> AsyncGenerator[Message, None]:
    """The messages of `topic`: all there are, or with `follow` those to come as well (only those, from the end).

    Close the generator (`contextlib.aclosing`) when leaving it early. Raises `TransportError`.
    """
    async with Reader(connection, topic) as reader:
        if follow:
            async for message in reader.follow(from_beginning=from_beginning):
                yield message
        elif from_beginning:
            async for message in reader.stored():
                yield message


async def read_reservations(connection: Connection, topic: str) -> dict[str, ReservationState]:
    """The newest state of every reservation, by its id, as far as this release can read them.

    Raises `TransportError`.
    """
    partitions = await partitions_of(connection, topic)
    try:
        async with asyncio.timeout(_STATES_TIMEOUT):
            by_partition = await read_states(connection, topic, partitions)
    except TimeoutError as error:
        raise TransportError(f"Reading {topic} took longer than {_STATES_TIMEOUT:g} s.") from error
    except KafkaError as error:
        raise TransportError(f"Reading {topic} failed: {error}") from error
    newest: dict[str, ReservationState] = {}
    for states in by_partition.values():
        for reservation_id in list(states):
            with suppress(Sealed):  # it was logged where it lies
                state, known = states.get(reservation_id), newest.get(reservation_id)
                if state is not None and (known is None or known.changed_at < state.changed_at):
                    newest[reservation_id] = state
    return newest
