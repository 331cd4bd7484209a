"""Forgetting reservations that are long over: what is remembered of them is deleted, in memory and from the topic.

Whether a state may go is looked at twice: by a walk over all states, which only asks, and once more in the lane of the
reservation, which acts. Like everything else that writes a state, that goes through the lane and holds it until the
broker acknowledged. So no event of the reservation is being handled meanwhile, what is handled afterwards writes
afterwards, and a partition that is left waits for it as for all work that was begun: a deletion never overtakes a newer
state, nor reaches the topic when somebody else may have written there.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from consumer.dispatch import Assignment, Done, Work
from consumer.handling.clock import utc_now
from consumer.handling.publications import Channel, Publication
from consumer.handling.records import Item
from schemas.state import Phase
from schemas.state_index import StateIndex

log = structlog.get_logger("moorage.retention")

_AT_ONCE = 1_000
"""States between two turns of the event loop: a few milliseconds."""

_REST = 0.02
"""Seconds between them: a walk over a million takes half a minute, and a tenth of a processor."""

_MOST_PENDING = 200
"""States that wait in their lanes at a time, so that the walk never fills the room that records need."""

_PATIENCE = 0.2
"""Seconds until it is tried again when there is no room."""

_LONGEST_PAUSE = 600.0


class Expired(Item):
    """The question whether a reservation may be forgotten."""

    __slots__ = ()


class States(Protocol):
    """What is remembered, as far as forgetting it is concerned; see `consumer.transport.states`."""

    @property
    def partitions(self) -> Sequence[int]:
        """Those that are restored."""
        ...

    def owners(self, partition: int) -> Sequence[Assignment]:
        """The open assignments, of any topic, to which the states of this partition belong."""
        ...

    def indexes(self, partition: int) -> Iterator[tuple[str, StateIndex]]: ...

    def index(self, reservation_id: str) -> StateIndex | None: ...

    def drop(self, assignment: Assignment, reservation_id: str) -> bool:
        """Forget a state; False when that cannot be now."""
        ...


Ask = Callable[[Assignment, str], bool]
"""Puts the question into the lane of a reservation, as an `Expired`; False when there is no room for it."""


@dataclass(frozen=True, slots=True)
class RetentionOptions:
    """`seconds` is how long the end of a reservation is remembered, counted from when it was over and released.

    `topics` are all that events come from.
    """

    seconds: float
    topics: Collection[str]

    @property
    def pause(self) -> float:
        """Seconds between two walks."""
        return min(_LONGEST_PAUSE, self.seconds / 10)


class Retention:
    """Walks over all states for as long as `run` runs, and forgets what is over."""

    def __init__(self, states: States, options: RetentionOptions, *, now: Callable[[], datetime] = utc_now) -> None:
        self._states = states
        self._options = options
        self._now = now
        self._pending: dict[str, Assignment] = {}

    async def run(self, ask: Ask) -> None:
        """Walk again and again, until cancelled."""
        while True:
            self._give_up_closed()
            for partition in self._states.partitions:
                if (owner := self._owner(partition)) is not None:
                    await self._walk(partition, owner, ask)
            await asyncio.sleep(self._options.pause)

    def handle(self, work: Work[Item]) -> Done[Publication]:
        """Forget the reservation that the work is about, if it still is to be forgotten. Runs in its lane."""
        reservation_id, assignment = str(work.key), work.assignment
        self._pending.pop(reservation_id, None)
        newest = self._states.index(reservation_id)
        # Where another member writes to the partition too, what is known here may be older than what lies there.
        if newest is None or not self._over(newest) or self._owner(assignment.partition) is None:
            return Done()
        if not self._states.drop(assignment, reservation_id):
            return Done()
        log.info("reservation_forgotten", reservation=reservation_id, phase=newest.phase)
        return Done((Publication(Channel.STATE, reservation_id.encode(), None, partition=assignment.partition),))

    async def _walk(self, partition: int, owner: Assignment, ask: Ask) -> None:
        for number, (reservation_id, index) in enumerate(self._states.indexes(partition), 1):
            if self._over(index) and reservation_id not in self._pending:
                while not owner.closed and not self._ask(reservation_id, owner, ask):  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(_PATIENCE)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(_REST)
            if owner.closed:
                return

    def _ask(self, reservation_id: str, owner: Assignment, ask: Ask) -> bool:
        if len(self._pending) >= _MOST_PENDING:
            self._give_up_closed()
        if len(self._pending) >= _MOST_PENDING or not ask(owner, reservation_id):
            return False
        self._pending[reservation_id] = owner
        return True

    def _give_up_closed(self) -> None:
        """What was asked in lanes that were given up with their partition is never answered."""
        self._pending = {each: asked for each, asked in self._pending.items() if not asked.closed}

    def _owner(self, partition: int) -> Assignment | None:
        """An assignment of this partition, if no other member writes there: all topics' partitions are ours."""
        owners = self._states.owners(partition)
        return owners[0] if {each.topic for each in owners} == set(self._options.topics) else None

    def _over(self, index: StateIndex) -> bool:
        """Whether it is long over. One with an environment, running or never removed, is not."""
        if index.phase is Phase.ACTIVE or index.environment or index.placed is not None:
            return False
        return max(index.end, index.changed_at) + self._options.seconds <= self._now().timestamp()
