"""The state topic in memory: what is remembered of each reservation, partition by partition."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import structlog
from aiokafka.errors import KafkaError

from consumer.dispatch import Assignment
from consumer.transport.connection import Connection
from consumer.transport.remembered import Remembered
from consumer.transport.restoring import read_states
from schemas.state import ReservationState
from schemas.state_index import StateIndex, decode_state

log = structlog.get_logger("moorage.states")

_DECODED = 2_000
"""States that are kept decoded, the ones last asked for: some eight MiB."""


class StateTopic:
    """Implements `consumer.handling.ports.StateStore` over the partitions this member owns.

    A partition's state lives in the state topic's partition of the same number. Records keyed by their reservation
    always find it; for others, all partitions owned here are looked through.
    """

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._partitions: dict[int, Remembered] = {}
        self._owners: dict[int, set[Assignment]] = {}
        self._decode = lru_cache(_DECODED)(decode_state)

    def get(self, assignment: Assignment, reservation_id: str) -> ReservationState | None:
        """The newest state of a reservation. Raises `Sealed` when this release must not touch it."""
        states = self._newest(reservation_id)
        return states.get(reservation_id) if states is not None else None

    def put(self, assignment: Assignment, state: ReservationState) -> None:
        """Remember `state`, unless the assignment was closed meanwhile. Raises `Sealed`."""
        if assignment.closed:
            return
        if assignment.partition not in self._partitions:
            self._partitions[assignment.partition] = Remembered(assignment.partition, self._decode)
        self._partitions[assignment.partition].put(state)

    def index(self, reservation_id: str) -> StateIndex | None:
        """The essence of a reservation's newest state; None for one that is sealed or not remembered here."""
        states = self._newest(reservation_id)
        return states.index(reservation_id) if states is not None else None

    def indexes(self, partition: int) -> Iterator[tuple[str, StateIndex]]:
        """The essence of every state of a partition, as far as it is not sealed.

        Take them in small numbers, with turns for the event loop in between: what comes or goes meanwhile may be left
        out.
        """
        states = self._partitions.get(partition)
        for reservation_id in list(states or ()):
            if states is not None and (index := states.index(reservation_id)) is not None:
                yield reservation_id, index

    def partition_of(self, reservation_id: str) -> int | None:
        """The partition of a reservation's newest state, sealed or not; None for one that is not remembered here."""
        states = self._newest(reservation_id)
        return states.partition if states is not None else None

    @property
    def partitions(self) -> Sequence[int]:
        """Those whose states are in memory."""
        return sorted(self._partitions)

    def owners(self, partition: int) -> Sequence[Assignment]:
        """The open assignments, of whatever topics, to which the states of this partition belong."""
        return [each for each in self._owners.get(partition, ()) if not each.closed]

    def drop(self, assignment: Assignment, reservation_id: str) -> bool:
        """Forget a state in memory; False when there is none, or none that may go now.

        Of several in different partitions the newest goes last: an older one must not take its place.
        """
        states = self._partitions.get(assignment.partition)
        holders = [each for each in self._partitions.values() if reservation_id in each]
        if assignment.closed or states not in holders or any(each.is_sealed(reservation_id) for each in holders):
            return False
        if states is self._newest(reservation_id) and len(holders) > 1:
            return False
        states.drop(reservation_id)
        return True

    async def restore(self, assignments: Iterable[Assignment]) -> None:
        """Read what is remembered of these partitions, those already in memory aside. Retries until it works."""
        assignments = list(assignments)
        missing = sorted({each.partition for each in assignments} - set(self._partitions))
        for assignment in assignments:
            self._owners.setdefault(assignment.partition, set()).add(assignment)
        if not missing:
            return

        def wanted() -> bool:
            return any(not each.closed for each in assignments)

        started = asyncio.get_running_loop().time()
        restored: dict[int, Remembered] = {}
        while wanted():
            try:
                restored = await read_states(self._connection, self._topic, missing, wanted=wanted, decode=self._decode)
                break
            except KafkaError as error:
                log.error("state_not_restored", partitions=missing, why=f"{type(error).__name__}: {error}", retry_in=1)
                await asyncio.sleep(1.0)
        for assignment in assignments:
            # One that was lost while this was read may be back by now, with a newer state than this.
            if not assignment.closed and assignment.partition in restored:
                self._partitions.setdefault(assignment.partition, restored[assignment.partition])
        seconds = asyncio.get_running_loop().time() - started
        count = sum(map(len, restored.values()))
        log.info("state_restored", partitions=missing, states=count, seconds=round(seconds, 3))

    def forget(self, assignments: Iterable[Assignment]) -> None:
        """Drop the state of partitions that nobody here owns any more."""
        for assignment in assignments:
            owners = self._owners.get(assignment.partition, set())
            owners.discard(assignment)
            if not owners:
                self._owners.pop(assignment.partition, None)
                self._partitions.pop(assignment.partition, None)

    def _newest(self, reservation_id: str) -> Remembered | None:
        """Where the reservation's newest state is: records under other keys may have left some in other partitions.

        One that is sealed counts as the newest: who cannot read it cannot tell.
        """
        found = [states for states in self._partitions.values() if reservation_id in states]
        if len(found) < 2:
            return found[0] if found else None

        def changed_at(states: Remembered) -> float:
            index = states.index(reservation_id)
            return index.changed_at if index is not None else float("inf")

        return max(found, key=changed_at)
