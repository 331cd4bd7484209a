"""The state topic in memory, as `consumer.transport.states` has it."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from consumer.dispatch import Assignment
from consumer.handling.publications import Publication
from consumer.transport.remembered import Remembered
from schemas.state import ReservationState
from schemas.state_index import StateIndex


class States:
    """What one member remembers of `topic`."""

    def __init__(self, topic: dict[int, dict[str, Publication]]) -> None:
        self._topic = topic
        self._partitions: dict[int, Remembered] = {}
        self._owners: dict[int, list[Assignment]] = defaultdict(list)

    async def restore(self, assignments: Iterable[Assignment]) -> None:
        assignments = list(assignments)
        for assignment in assignments:
            self._owners[assignment.partition].append(assignment)
        await asyncio.sleep(0)
        for partition in {each.partition for each in assignments} - set(self._partitions):
            remembered = self._partitions[partition] = Remembered(partition)
            for written in self._topic[partition].values():
                remembered.load(0, written.key, written.value, written.headers)

    def forget(self, assignments: Iterable[Assignment]) -> None:
        for assignment in assignments:
            self._owners.pop(assignment.partition, None)
            self._partitions.pop(assignment.partition, None)

    @property
    def partitions(self) -> Sequence[int]:
        return sorted(self._partitions)

    def owners(self, partition: int) -> Sequence[Assignment]:
        return [each for each in self._owners[partition] if not each.closed]

    def drop(self, assignment: Assignment, reservation_id: str) -> bool:
        states = self._partitions.get(assignment.partition)
        if assignment.closed or states is None or reservation_id not in states:
            return False
        states.drop(reservation_id)
        return True

    def get(self, assignment: Assignment, reservation_id: str) -> ReservationState | None:
        states = self._newest(reservation_id)
        return states.get(reservation_id) if states is not None else None

    def put(self, assignment: Assignment, state: ReservationState) -> None:
        if not assignment.closed:
            self._partitions[assignment.partition].put(state)

    def index(self, reservation_id: str) -> StateIndex | None:
        states = self._newest(reservation_id)
        return states.index(reservation_id) if states is not None else None

    def indexes(self, partition: int) -> Iterator[tuple[str, StateIndex]]:
        for reservation_id in list(states := self._partitions.get(partition, Remembered(partition))):
            if (index := states.index(reservation_id)) is not None:
                yield reservation_id, index

    def partition_of(self, reservation_id: str) -> int | None:
        states = self._newest(reservation_id)
        return states.partition if states is not None else None

    def _newest(self, reservation_id: str) -> Remembered | None:
        found = [states for states in self._partitions.values() if reservation_id in states]
        return max(found, key=lambda states: _changed_at(states, reservation_id), default=None)


def _changed_at(states: Remembered, reservation_id: str) -> float:
    index = states.index(reservation_id)
    return index.changed_at if index is not None else 0.0
