"""What an operator sees of work that is not done."""

from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from consumer.dispatch.assignment import Assignment
from consumer.dispatch.lanes import Lane


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Work that was admitted and is not done. `age` is seconds since its admission."""

    topic: str
    partition: int
    offset: int
    key: Hashable
    stage: str
    attempt: int
    age: float


def unfinished_of(
    lanes: Iterable[Lane[Any]], now: float, only: Collection[Assignment] | None = None
) -> Iterator[Unfinished]:
    """All work in these lanes, lane by lane; of all assignments unless `only` some are asked for."""
    for lane in lanes:
        stage = lane.stage.name.lower()
        for work in lane:
            where = work.assignment
            age = now - work.admitted_at
            if only is None or where in only:
                yield Unfinished(where.topic, where.partition, work.offset, work.key, stage, work.attempt, age)
            stage = "queued"
