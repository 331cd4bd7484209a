"""Lanes: the queue of one key each, and the lanes that are ready to run, grouped so that each group has its limit."""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from enum import Enum, auto
from itertools import pairwise
from typing import Generic, TypeVar

from consumer.dispatch.assignment import Assignment

T = TypeVar("T")


class Stage(Enum):
    """Where a lane's head is."""

    READY = auto()
    RUNNING = auto()
    PUBLISHING = auto()
    PARKED = auto()


class Countdown:
    """The parts of one record that are not done yet."""

    __slots__ = ("remaining",)

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining


class Work(Generic[T]):
    """One item on its way through a lane.

    `attempt` counts from 1; `started_at` is the loop time of the first attempt, `admitted_at` that of admission.
    """

    __slots__ = ("admitted_at", "assignment", "attempt", "item", "key", "next", "offset", "parts", "size", "started_at")

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
        self.parts: Countdown | None = None
        self.next: Work[T] | None = None


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
    """Lanes that share a concurrency limit, such as those of one runtime."""

    __slots__ = ("limit", "name", "ready", "running")

    def __init__(self, name: str | None, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.ready: deque[Lane[T]] = deque()
        self.running = 0


class ReadyLanes(Generic[T]):
    """The lanes that wait for a slot. Groups take turns, so a long queue in one does not starve another."""

    def __init__(self, limits: dict[str, int], default_limit: int) -> None:
        self._limits = limits
        self._default_limit = default_limit
        self._groups: dict[str | None, Group[T]] = {}
        self._turns: deque[Group[T]] = deque()

    def push(self, lane: Lane[T], group_name: str | None) -> None:
        group = self._groups.get(group_name)
        if group is None:
            limit = self._limits.get(group_name, self._default_limit) if group_name else self._default_limit
            group = self._groups[group_name] = Group(group_name, limit)
            self._turns.append(group)
        group.ready.append(lane)

    def pop(self) -> tuple[Lane[T], Group[T]] | None:
        """The next lane whose group has room, counted as running there until `leave`; None when there is none."""
        turns = self._turns
        for _ in range(len(turns)):
            group = turns[0]
            if len(turns) > 1:
                turns.rotate(-1)
            if group.ready and group.running < group.limit:
                group.running += 1
                return group.ready.popleft(), group
        return None

    def has_runnable(self) -> bool:
        return any(group.ready and group.running < group.limit for group in self._turns)

    def running(self) -> dict[str | None, int]:
        """How many lanes run in each group."""
        return {group.name: group.running for group in self._turns}
