"""What is finished, and what is not begun any more, of partitions that are being left."""

from collections.abc import Collection, Iterable, Set
from typing import TypeVar

from consumer.dispatch.assignment import Assignment
from consumer.dispatch.lanes import Countdown, Lane, Stage, Work

T = TypeVar("T")

_WAITING = (Stage.PARKED, Stage.HELD)


def worth_finishing(lanes: Iterable[Lane[T]], leaving: Set[Assignment]) -> set[Work[T]]:
    """The queued work of these partitions that is to be finished all the same.

    What was not begun is left to the next owner. But a record of several parts comes again as a whole: once one of them
    was begun, the others are finished too, or it would be repeated. So is what is queued before such a part, because
    nothing may overtake it, and so on. A record with a part that waits for another attempt cannot be finished now.
    """
    lanes = list(lanes)
    waiting = {work.parts for lane in lanes if lane.stage in _WAITING for work in lane}
    queues = [[work for work in lane if work.assignment in leaving] for lane in lanes if lane.stage not in _WAITING]
    parts = {work.parts for queue in queues for work in queue if work.parts is not None and work.parts.begun}
    records = {each for each in parts if each not in waiting}
    kept: set[Work[T]] = set()
    grown = bool(records)
    while grown:
        before = len(records)
        for queue in queues:
            prefix = queue[: _last(queue, records)]
            kept.update(prefix)
            records.update(work.parts for work in prefix if work.parts is not None)
        grown = len(records) > before
    return kept


def _last(queue: Collection[Work[T]], records: Set[Countdown]) -> int:
    """One past the last part of these records in the queue."""
    return max((index for index, work in enumerate(queue, 1) if work.parts in records), default=0)
