"""The state topic in memory: what is remembered of each reservation, partition by partition."""

import asyncio
from collections.abc import Iterable
from datetime import datetime

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from consumer.dispatch import Assignment
from consumer.transport.connection import Connection
from consumer.transport.stopping import stop_client
from schemas.state import ReservationState

log = structlog.get_logger("moorage.states")

_STOPPING = 5.0


class StateTopic:
    """Implements `consumer.handling.ports.StateStore` over the partitions this member owns.

    A partition's state lives in the state topic's partition of the same number. Records keyed by their reservation
    always find it; for others, all partitions owned here are looked through.
    """

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._partitions: dict[int, dict[str, ReservationState]] = {}
        self._owners: dict[int, set[Assignment]] = {}

    def get(self, assignment: Assignment, reservation_id: str) -> ReservationState | None:
        if len(self._partitions) < 2:
            return self._partitions.get(assignment.partition, {}).get(reservation_id)
        # The newest of all: a record under another key may have changed the state in its own partition meanwhile.
        found = [states[reservation_id] for states in self._partitions.values() if reservation_id in states]
        return max(found, key=_changed_at, default=None) if len(found) != 1 else found[0]

    def put(self, assignment: Assignment, state: ReservationState) -> None:
        if not assignment.closed:
            self._partitions.setdefault(assignment.partition, {})[state.reservation_id] = state

    def all(self) -> Iterable[ReservationState]:
        """Every state of the partitions owned here."""
        for states in self._partitions.values():
            yield from states.values()

    async def restore(self, assignments: Iterable[Assignment]) -> None:
        """Read what is remembered of these partitions, those already in memory aside. Retries until it works."""
        assignments = list(assignments)
        missing = sorted({each.partition for each in assignments} - set(self._partitions))
        for assignment in assignments:
            self._owners.setdefault(assignment.partition, set()).add(assignment)
        if not missing:
            return
        started = asyncio.get_running_loop().time()
        restored: dict[int, dict[str, ReservationState]] = {}
        while any(not each.closed for each in assignments):
            try:
                restored = await read_states(self._connection, self._topic, missing)
                break
            except KafkaError as error:
                log.error("state_not_restored", partitions=missing, why=f"{type(error).__name__}: {error}", retry_in=1)
                await asyncio.sleep(1.0)
        for assignment in assignments:
            # One that was lost while this was read may be back by now, with a newer state than this.
            if not assignment.closed and assignment.partition in restored:
                self._partitions.setdefault(assignment.partition, restored[assignment.partition])
        seconds = asyncio.get_running_loop().time() - started
        count = sum(len(states) for states in restored.values())
        log.info("state_restored", partitions=missing, states=count, seconds=round(seconds, 3))

    def forget(self, assignments: Iterable[Assignment]) -> None:
        """Drop the state of partitions that nobody here owns any more."""
        for assignment in assignments:
            owners = self._owners.get(assignment.partition, set())
            owners.discard(assignment)
            if not owners:
                self._owners.pop(assignment.partition, None)
                self._partitions.pop(assignment.partition, None)


def _changed_at(state: ReservationState) -> datetime:
    return state.changed_at


async def read_states(
    connection: Connection, topic: str, partitions: Iterable[int] | None = None
) -> dict[int, dict[str, ReservationState]]:
    """The latest state of every reservation in these partitions of the state topic (all when None)."""
    consumer = AIOKafkaConsumer(**connection.arguments(), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
        if partitions is None:
            partitions = consumer.partitions_for_topic(topic) or await _partitions_of(consumer, topic)
        tps = [TopicPartition(topic, partition) for partition in partitions]
        restored: dict[int, dict[str, ReservationState]] = {tp.partition: {} for tp in tps}
        if not tps:
            return restored
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        await consumer.seek_to_beginning(*tps)
        behind = [tp for tp in tps if await consumer.position(tp) < ends[tp]]
        while behind:
            for tp, records in (await consumer.getmany(*behind, timeout_ms=500, max_records=10_000)).items():
                states = restored[tp.partition]
                for record in records:
                    _apply(states, record.key, record.value, tp.partition, record.offset)
            behind = [tp for tp in behind if await consumer.position(tp) < ends[tp]]
        return restored
    finally:
        await stop_client(consumer, _STOPPING)


async def _partitions_of(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer.topics()
    return consumer.partitions_for_topic(topic) or set()


def _apply(
    states: dict[str, ReservationState], key: bytes | None, value: bytes | None, partition: int, offset: int
) -> None:
    reservation_id = (key or b"").decode("utf-8", "replace")
    if value is None:
        states.pop(reservation_id, None)
        return
    try:
        state = ReservationState.model_validate_json(value)
    except ValidationError as error:
        log.warning("state_unreadable", partition=partition, offset=offset, why=error.errors()[0]["msg"])
        return
    states[state.reservation_id] = state
