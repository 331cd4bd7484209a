"""Everything about a story that is decided beforehand, drawn from its seed."""

import asyncio
import random
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Literal

from consumer.dispatch import BreakerPolicy, DeadLetterBudget, Limits, Outage, Retry
from consumer.transport.options import Options

INBOUND, OUTBOUND, DEAD_LETTERS, STATE = "events", "outbound", "dead-letters", "state"
GROUP = "moorage"

PATIENCE = 4
"""After this many runs an item always succeeds, and soon."""

_SLOW = 20.0
"""How many times longer than usual some runs take."""

LARGEST_MESSAGE = 20_000
"""Bytes that the outbound topics take: more than a producer gathers in one batch, as it should be."""

Event = Literal["join", "stop", "kill", "outage", "isolation", "reset", "overload"]


@dataclass(frozen=True, slots=True)
class Item:
    """One part of a record: number `part` of the keys that its value names."""

    partition: int
    offset: int
    part: int
    key: Hashable

    def __repr__(self) -> str:
        return f"{self.partition}/{self.offset}.{self.part}[{self.key}]"


@dataclass(frozen=True, slots=True)
class Trouble:
    """How often what goes wrong, as probabilities."""

    handler: float = 0.0
    request_slow: float = 0.0
    request_fails: float = 0.0
    reply_lost: float = 0.0
    refused: float = 0.0
    """The broker says never, as it does to a producer whose sequence is lost."""

    @property
    def requests(self) -> bool:
        """Whether anything befalls requests."""
        return any((self.request_slow, self.request_fails, self.reply_lost, self.refused))


@dataclass(frozen=True, slots=True)
class Plan:
    """Times are seconds."""

    seed: int
    partitions: int = 2
    records: int = 20
    keys: int = 5
    pace: float = 0.1
    """Between two records, on average."""

    members: int = 1
    """At the start."""

    options: Options = field(default_factory=lambda: Options(group=GROUP))
    slowness: float = 0.5
    trouble: Trouble = Trouble()
    duration: float = 20.0
    events: tuple[Event, ...] = ()
    event_every: float = 5.0

    @property
    def requests_succeed(self) -> bool:
        """Whether Kafka always answers, and at once."""
        return not self.trouble.requests and not {"outage", "isolation"} & set(self.events)

    @property
    def handlers_succeed(self) -> bool:
        """Whether they do at once, and so do dead letters."""
        return not self.trouble.handler and self.options.dead_letters.burst >= 100

    @property
    def is_gentle(self) -> bool:
        """Nobody is killed, Kafka works, draining takes less than it may: what was done must not be done again."""
        in_time = self.slowness * _SLOW < self.options.drain_timeout
        return self.requests_succeed and in_time and not {"kill", "reset"} & set(self.events)

    def rng(self, *purpose: object) -> random.Random:
        """Draws for one purpose: whatever else is drawn in between, these stay the same."""
        return random.Random(f"{self.seed} {purpose}")  # noqa: S311 - reproducible on purpose


def drawn(seed: int) -> Plan:
    """The plan of a seed. Every third is gentle, because that is when most is promised."""
    plan = _drawn(seed)
    if seed % 3:
        return plan
    draw = plan.rng("gentle")
    return replace(
        plan,
        trouble=Trouble(draw.choice([0.0, 0.0, plan.trouble.handler])),
        options=replace(plan.options, drain_timeout=25.0, dead_letters=DeadLetterBudget(draw.choice([3, 100, 100]))),
        slowness=draw.choice([0.05, 0.5]),
        events=draw.choice([("join", "stop"), ("join", "stop", "overload")]),
        event_every=draw.choice([0.5, 2.0]),
    )


def _drawn(seed: int) -> Plan:
    draw = random.Random(seed)  # noqa: S311 - reproducible on purpose
    handler = draw.choice([0.0, 0.2, 0.5])
    events: list[Event] = draw.choice(
        [
            [],
            ["join", "stop"],
            ["join", "stop", "overload"],
            ["join", "kill"],
            ["join", "stop", "kill", "outage"],
            ["outage"],
            ["join", "stop", "isolation"],
            ["join", "stop", "reset"],
            ["join", "stop", "kill", "outage", "isolation", "reset", "overload"],
        ]
    )
    slow = draw.choice([0.0, 0.0, 0.1])
    trouble = Trouble(handler, slow)
    if draw.random() < 0.5:
        trouble = Trouble(handler, slow, *(draw.choice([0.0, 0.02, 0.1]) for _ in range(3)))
    return Plan(
        seed=seed,
        partitions=draw.randint(1, 4),
        records=draw.choice([5, 20, 40]),
        keys=draw.choice([1, 3, 10, 50]),
        pace=draw.choice([0.0, 0.1, 0.5]),
        members=draw.randint(1, 3),
        options=Options(
            group=GROUP,
            limits=Limits(
                max_records=draw.choice([1, 5, 20, 100]),
                max_records_per_partition=draw.choice([1, 3, 10, 50]),
                max_parked=draw.choice([1, 3, 100]),
                max_unacknowledged=draw.choice([1, 3, 100]),
                concurrency=draw.choice([1, 2, 3, 8]),
            ),
            breakers=BreakerPolicy(threshold=draw.choice([1, 3]), rng=random.Random(seed)),  # noqa: S311 - see above
            dead_letters=DeadLetterBudget(burst=draw.choice([1, 3, 100])),
            poll_records=draw.choice([1, 3, 20]),
            poll_wait=2.0,
            commit_interval=draw.choice([0.2, 1.0, 3.0]),
            drain_timeout=draw.choice([0.5, 5.0, 25.0]),
        ),
        slowness=draw.choice([0.05, 0.5, 3.0]),
        trouble=trouble,
        duration=draw.choice([10.0, 30.0]),
        events=tuple(events),
        event_every=draw.choice([1.0, 4.0, 10.0]),
    )


class Fate:
    """What one run of an item comes to."""

    def __init__(self, plan: Plan, item: Item, run: int, trouble: float) -> None:
        draw = plan.rng(item, run)
        patient = run < PATIENCE
        troubled = patient and draw.random() < trouble
        slow = _SLOW if patient and draw.random() < 0.05 else 1.0
        takes = plan.slowness * slow * draw.random()
        self.takes = draw.choice([(), (0.0,), (takes / 10,), (takes,), (takes / 2, 0.0, takes / 2)])
        """The seconds of each wait."""

        self.cleanup = draw.choice([0.0, 0.0, 1.0, 4.0]) * draw.random()
        self.publications = draw.choice([0, 1, 1, 2])
        self.remembers = draw.random() < 0.3
        self.is_dead_letter = draw.random() < 0.1
        self.is_large = draw.random() < 0.03
        self.trouble: Retry | Outage | BaseException | None = _trouble(draw) if troubled else None
        self.swallows_cancellation = patient and draw.random() < 0.1


def _trouble(draw: random.Random) -> Retry | Outage | BaseException:
    return draw.choice(
        [
            Retry(0.0),
            Retry(draw.uniform(0, 8)),
            Retry(draw.uniform(0, 8), fresh=True),
            Outage(),
            Outage("docker"),
            ValueError("a defect"),
            asyncio.CancelledError("of a helper"),
        ]
    )
