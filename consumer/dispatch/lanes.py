"""Lanes: the queue of one key each, and the lanes that are ready to run, grouped so that each group has its limit."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from enum import Enum, auto
from itertools import pairwise
from typing import Generic, TypeVar

from consumer.dispatch.assignment import Assignment
from consumer.dispatch.breaker import Breaker, BreakerPolicy

T = TypeVar("T")


class Stage(Enum):
    """Where a lane's head is."""

    READY = auto()
    RUNNING = auto()
    PUBLISHING = auto()
    PARKED = auto()
    HELD = auto()
    """Its dead letter waits for the budget."""


class Countdown:
    """The parts of one record that are not done yet, and whether any was begun."""

    __slots__ = ("begun", "remaining")

    def __init__(self, remaining: int) -> None:
        self.begun = False
        self.remaining = remaining


NO_OFFSET = -1
"""Of work that no record asked for."""


class Work(Generic[T]):
    """One item on its way through a lane.

    `attempt` counts from 1, `steps` what was done of it one after the other; `started_at` is the loop time of the first
    attempt, `admitted_at` that of admission. `interrupted` tells that something came in behind it which makes it
    pointless; a handler that wants to know at once sets `on_interrupt`.
    """

    __slots__ = (
        "admitted_at",
        "assignment",
        "attempt",
        "interrupted",
        "item",
        "key",
        "next",
        "offset",
        "on_interrupt",
        "parts",
        "size",
        "started_at",
        "steps",
    )

    def __init__(
        self, assignment: Assignment, offset: int, key: Hashable, item: T, size: int, admitted_at: float
    ) -> None:
        self.assignment = assignment
        self.offset = offset
        self.key = key
        self.item = item
        self.size = size
        self.admitted_at = admitted_at
        self.started_at: float | None = None
        self.attempt = 0
        self.steps = 0
        self.parts: Countdown | None = None
        self.next: Work[T] | None = None
        self.interrupted = False
        self.on_interrupt: Callable[[], None] | None = None

    def interrupt(self) -> None:
        if self.interrupted:
            return
        self.interrupted = True
        if self.on_interrupt is not None:
            self.on_interrupt()


class Lane(Generic[T]):
    """The queue of one key: a linked list, because most lanes hold one or two items and there are many lanes."""

    __slots__ = ("head", "key", "stage", "tail")

    def __init__(self, work: Work[T]) -> None:
        self.key = work.key
        self.head = work
        self.tail = work
        self.stage = Stage.READY

    def __iter__(self) -> Iterator[Work[T]]:
        work: Work[T] | None = self.head
        while work is not None:
            yield work
            work = work.next

    def append(self, work: Work[T]) -> None:
        self.tail.next = work
        self.tail = work

    def advance(self) -> bool:
        """Drop the head; False when it was the last item."""
        if self.head.next is None:
            return False
        self.head = self.head.next
        return True

    def keep(self, items: Sequence[Work[T]]) -> None:
        """Drop all but these, of which there is at least one."""
        self.head, self.tail = items[0], items[-1]
        for work, following in pairwise([*items, None]):
            if work is not None:
                work.next = following


class Group(Generic[T]):
    """Lanes that share a concurrency limit and a circuit breaker, such as those of one runtime."""

    __slots__ = ("breaker", "limit", "name", "ready", "running", "slots")

    def __init__(self, name: str | None, limit: int, breaker: Breaker) -> None:
        self.name = name
        self.limit = limit
        self.breaker = breaker
        self.ready: deque[Lane[T]] = deque()
        self.running = 0
        self.slots = limit

    @property
    def runnable(self) -> bool:
        """Whether one of its lanes is ready and may run."""
        return bool(self.ready) and self.running < self.slots

    def adjust(self) -> None:
        """Let the breaker's state count."""
        self.slots = self.breaker.slots(self.limit)


class ReadyLanes(Generic[T]):
    """The lanes that wait for a slot. Groups take turns, so a long queue in one does not starve another."""

    def __init__(self, limits: dict[str, int], default_limit: int, breakers: BreakerPolicy) -> None:
        self._limits = limits
        self._default_limit = default_limit
        self._breakers = breakers
        self._groups: dict[str | None, Group[T]] = {}
        self._turns: deque[Group[T]] = deque()

    def __iter__(self) -> Iterator[Group[T]]:
        return iter(self._groups.values())

    def group(self, name: str | None) -> Group[T]:
        group = self._groups.get(name)
        if group is None:
            limit = self._limits.get(name, self._default_limit) if name else self._default_limit
            group = self._groups[name] = Group(name, limit, Breaker(self._breakers))
            self._turns.append(group)
        return group

    def push(self, lane: Lane[T], group_name: str | None, *, first: bool = False) -> None:
        ready = self.group(group_name).ready
        if first:
            ready.appendleft(lane)
        else:
            ready.append(lane)

    def pop(self) -> tuple[Lane[T], Group[T]] | None:
        """The next lane that may run, counted as running in its group until that is taken back; None without one."""
        turns = self._turns
        for _ in range(len(turns)):
            group = turns[0]
            if len(turns) > 1:
                turns.rotate(-1)
            if group.runnable:
                group.running += 1
                return group.ready.popleft(), group
        return None

    def discard(self, lanes: Set[Lane[T]]) -> None:
        """Take these out of the queues they are in."""
        for group in self._turns:
            if not lanes.isdisjoint(group.ready):
                group.ready = deque(lane for lane in group.ready if lane not in lanes)

    def has_runnable(self) -> bool:
        return any(group.runnable for group in self._turns)
