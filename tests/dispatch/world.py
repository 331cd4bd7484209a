"""What a simulation runs against: partitions full of records, what happens to each, and the truth about it."""

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from consumer.dispatch import Assignment, BreakerPolicy, DeadLetterBudget, Done, Limits, Outage, Retry, Work

GROUPS = (None, None, "docker", "kubernetes")

PATIENCE = 6
"""After this many runs an item always succeeds, and soon."""


@dataclass(frozen=True, eq=False)
class Item:
    """Number `index` of its key in its partition."""

    partition: int
    offset: int
    key: Hashable
    index: int
    size: int
    group: str | None

    def __repr__(self) -> str:
        return f"{self.partition}/{self.offset}[{self.key} #{self.index}]"


@dataclass(frozen=True)
class Record:
    offset: int
    produced_at: float
    size: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Delivery:
    """A publication: whose it is, and when and how the broker answers."""

    work: Work[Item]
    after: float
    error: BaseException | None


class Plan:
    """Everything about a simulation that is decided beforehand, drawn from its seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        draw = self.rng("plan")
        self.limits = Limits(
            max_records=draw.choice([1, 5, 20, 100]),
            max_bytes=draw.choice([100, 1000, 10**6]),
            max_records_per_partition=draw.choice([1, 3, 10, 50]),
            concurrency=draw.choice([1, 2, 3, 8]),
            per_group=draw.choice([(), (("docker", 1),), (("docker", 2), ("kubernetes", 1))]),
            max_parked=draw.choice([1, 10, 100]),
            max_unacknowledged=draw.choice([1, 3, 100]),
        )
        self.breakers = BreakerPolicy(threshold=draw.choice([1, 3]), open_for=draw.choice([1.0, 20.0]))
        self.dead_letters = DeadLetterBudget(burst=draw.choice([1, 5, 100]), per_second=draw.choice([0.05, 1.0]))
        self.poll_records = draw.choice([1, 5, 30])
        self.slowness = draw.choice([0.1, 1.0, 5.0])
        self.trouble = draw.choice([0.0, 0.2, 0.6])
        self.rebalance_every = draw.choice([1.0, 10.0, 1e9])
        self.crash_after = [draw.uniform(0, 30) for _ in range(draw.choice([0, 0, 1, 3]))]
        self.partitions = _partitions(draw, draw.randint(1, 4), draw.choice([1, 5, 50]))

    def rng(self, *purpose: object) -> random.Random:
        """Draws for one purpose: whatever else is drawn in between, these stay the same."""
        return random.Random(f"{self.seed} {purpose}")  # noqa: S311 - reproducible on purpose

    def limit_of(self, group: str | None) -> int:
        return dict(self.limits.per_group).get(group or "", self.limits.concurrency)

    def items(self) -> Iterator[Item]:
        return (item for log in self.partitions for record in log for item in record.items)


def _partitions(draw: random.Random, partitions: int, keys: int) -> list[list[Record]]:
    shared_keys, skew, pace = draw.random() < 0.3, draw.choice([1, 4]), draw.choice([0.0, 0.5])
    return [
        _partition(draw, number, draw.randint(0, 40), pace, keys, skew, shared=shared_keys)
        for number in range(partitions)
    ]


def _partition(
    draw: random.Random, partition: int, records: int, pace: float, keys: int, skew: float, *, shared: bool
) -> list[Record]:
    counts: dict[Hashable, int] = defaultdict(int)
    log: list[Record] = []
    offset, produced_at = draw.choice([0, 10**12]), 0.0
    for _ in range(records):
        offset += draw.choice([1, 1, 1, 2, 100])
        produced_at += draw.uniform(0, pace)
        size, items = draw.randint(0, 60), []
        parts = draw.choice([0, 1, 1, 1, 1, 2, 5])
        for _ in range(parts):
            number = int(keys * draw.random() ** skew)
            key = number if shared else (partition, number)
            items.append(Item(partition, offset, key, counts[key], size // parts, draw.choice(GROUPS)))
            counts[key] += 1
        log.append(Record(offset, produced_at, size, tuple(items)))
    return log


class Fate:
    """What one run of an item comes to."""

    def __init__(self, plan: Plan, item: Item, run: int) -> None:
        draw = plan.rng(item, run)
        patient = run < PATIENCE
        self.group_unknown = patient and draw.random() < plan.trouble / 20
        slow = 60.0 if patient and draw.random() < 0.05 else 1.0
        takes = plan.slowness * slow * draw.random()
        self.takes = draw.choice([None, 0.0, takes / 10, takes, takes])
        """Seconds; None when it does not even suspend."""
        self.cleanup = draw.choice([0.0, 0.0, 1.0, 8.0]) * draw.random()
        self.ending = self._trouble(draw) if patient and draw.random() < plan.trouble else self._success(plan, draw)
        self.cancelled_ending = draw.choice([asyncio.CancelledError()] * 3 + [OSError("cleanup"), Done(), Retry(1.0)])

    def _success(self, plan: Plan, draw: random.Random) -> Done[tuple[float, BaseException | None]]:
        letters = draw.choice([0, 0, 0, 0, 1, 2]) if plan.trouble else 0
        if draw.random() < 0.4:
            return Done(dead_letters=letters)
        return Done(((plan.slowness * draw.choice([0.0, 0.1, 1.0]), None),), letters)

    def _trouble(
        self, draw: random.Random
    ) -> Done[tuple[float, BaseException | None]] | Retry | Outage | BaseException:
        return draw.choice(
            [
                Outage(),
                Outage(),
                Outage("kubernetes"),
                Retry(0.0),
                Retry(draw.uniform(0, 20)),
                Retry(draw.uniform(0, 20), fresh=True),
                ValueError("defect"),
                asyncio.CancelledError("of a helper"),
                Done(((draw.random(), OSError("not published")),)),
                Done(((draw.random(), asyncio.CancelledError()),)),
            ]
        )


class Ledger:
    """The truth about one assignment: what was admitted to it and is not done."""

    def __init__(self, assignment: Assignment, log: list[Record], committed: int) -> None:
        self.assignment = assignment
        self.partition = assignment.partition
        self.unfinished: dict[int, set[Item]] = {}
        self.end = committed
        self._log = log
        self._next = next((index for index, record in enumerate(log) if record.offset >= committed), len(log))
        self._lanes: dict[Hashable, deque[Item]] = defaultdict(deque)

    def __repr__(self) -> str:
        return repr(self.assignment)

    def fetch(self, count: int, now: float) -> list[Record]:
        fetched = [record for record in self._log[self._next : self._next + count] if record.produced_at <= now]
        self._next += len(fetched)
        return fetched

    def admit(self, record: Record) -> None:
        self.end = max(self.end, record.offset + 1)
        if record.items:
            self.unfinished[record.offset] = set(record.items)
        for item in record.items:
            self._lanes[item.key].append(item)

    def head(self, key: Hashable) -> Item | None:
        lane = self._lanes[key]
        return lane[0] if lane else None

    def done(self, item: Item) -> bool:
        """Note an item as done; False when it was not its key's turn."""
        if self.head(item.key) is not item:
            return False
        self._lanes[item.key].popleft()
        left = self.unfinished[item.offset]
        left.remove(item)
        if not left:
            del self.unfinished[item.offset]
        return True
