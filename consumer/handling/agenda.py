"""What is remembered of reservations, and when each has to be looked at again although nobody sends an event."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Protocol

from consumer.dispatch import Assignment
from consumer.handling.ports import StateStore
from consumer.handling.quotas import Ledger
from consumer.handling.timers import Timers
from consumer.reservations import Policy, due_at
from schemas.state import ReservationState
from schemas.state_index import StateIndex, index_of

_TICK = 1.0
_AGAIN = 60.0
"""Seconds after which what was due is due again, unless its state has changed by then."""

_AT_ONCE = 1_000
"""Indexes that are read between two turns of the event loop: a few milliseconds."""

_RUNG_AT_ONCE = 200
"""Timers that ring between two turns. After an outage, a whole university's may be due."""


class States(StateStore, Protocol):
    """A state store that is restored partition by partition."""

    def index(self, reservation_id: str) -> StateIndex | None:
        """The essence of a state."""
        ...

    def indexes(self, partition: int) -> Iterator[tuple[str, StateIndex]]:
        """The essence of every state of one partition."""
        ...

    def partition_of(self, reservation_id: str) -> int | None:
        """Where its newest state is."""
        ...

    async def restore(self, assignments: Iterable[Assignment]) -> None: ...

    def forget(self, assignments: Iterable[Assignment]) -> None: ...


class Agenda:
    """Implements `StateStore` over `states`: everything that is remembered arms a timer, and counts in the ledger.

    Several topics share the state of the partitions of one number: their timers are in one heap, and whichever of them
    is owned takes what is due.
    """

    def __init__(self, states: States, policy: Policy, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self.states = states
        self._ledger = ledger
        self._policy = policy
        self._now = now
        self._timers: dict[int, Timers] = {}
        self._owners: dict[int, list[Assignment]] = {}

    def get(self, assignment: Assignment, reservation_id: str) -> ReservationState | None:
        return self.states.get(assignment, reservation_id)

    def put(self, assignment: Assignment, state: ReservationState) -> None:
        self.states.put(assignment, state)
        if assignment.closed:
            return
        index = index_of(state)
        self._ledger.remember(assignment.partition, state.reservation_id, index)
        if (timers := self._timers.get(assignment.partition)) is not None:
            timers.arm(state.reservation_id, due_at(index, self._now().timestamp(), self._policy))

    async def restore(self, assignments: Iterable[Assignment]) -> None:
        assignments = list(assignments)
        await self.states.restore(assignments)
        for assignment in assignments:
            if assignment.closed:
                continue
            self._owners.setdefault(assignment.partition, []).append(assignment)
            if assignment.partition not in self._timers:
                await self._arm(assignment.partition)

    async def _arm(self, partition: int) -> None:
        timers = self._timers[partition] = Timers()
        now = self._now().timestamp()
        for count, (reservation_id, index) in enumerate(self.states.indexes(partition), 1):
            timers.arm(reservation_id, due_at(index, now, self._policy))
            # Looked for only where it matters: of a million that are remembered, few run.
            if self._ledger.concerns(reservation_id, index) and self.states.partition_of(reservation_id) == partition:
                self._ledger.restore(partition, reservation_id, index)
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)
                now = self._now().timestamp()

    def forget(self, assignments: Iterable[Assignment]) -> None:
        assignments = list(assignments)
        for assignment in assignments:
            owners = self._owners.get(assignment.partition, [])
            if assignment in owners:
                owners.remove(assignment)
            if not owners:
                self._owners.pop(assignment.partition, None)
                self._timers.pop(assignment.partition, None)
                self._ledger.forget(assignment.partition)
        self.states.forget(assignments)

    @property
    def owned(self) -> dict[int, Assignment]:
        """The partitions whose reservations are remembered here, and one assignment of each."""
        return {partition: owners[0] for partition, owners in self._owners.items()}

    async def run(self, review: Callable[[Assignment, str], bool]) -> None:
        """Call `review` for what is due, until cancelled. What it does not take stays due."""
        while True:
            await asyncio.sleep(_TICK)  # the loop's time: a wall clock that jumps wakes nobody
            while self.ring(review):  # noqa: ASYNC110 - others get their turn
                await asyncio.sleep(0)

    def ring(self, review: Callable[[Assignment, str], bool]) -> bool:
        """Call `review` for what is due now, or the first of it; True when there is more."""
        now, left = self._now().timestamp(), _RUNG_AT_ONCE
        for partition, assignment in self.owned.items():
            if (timers := self._timers.get(partition)) is not None:
                left -= self._ring(timers, now, left, partial(review, assignment))
        return left <= 0

    def _ring(self, timers: Timers, now: float, most: int, review: Callable[[str], bool]) -> int:
        """How many of at most so many timers rang; what is not taken is left alone until the next tick."""
        rang = 0
        while rang < most and (reservation_id := timers.due(now)) is not None:
            index = self.states.index(reservation_id)
            due = due_at(index, now, self._policy) if index is not None else None
            if due is not None and due <= now:
                if not review(reservation_id):
                    break
                due = now + _AGAIN
            timers.arm(reservation_id, due)
            rang += 1
        return rang
