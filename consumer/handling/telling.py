"""Telling machines how far a slow start is. What cannot be sent at once is dropped: nothing depends on it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from consumer.dispatch import Work
from consumer.handling import publications
from consumer.handling.ports import Progress, Report
from consumer.handling.publications import Context, Publication
from consumer.handling.records import Item
from schemas.state import ReservationState

Tell = Callable[[Publication], None]

_EVERY = 5.0
"""Seconds from the beginning to the first, and between any two; a start that is quick tells nothing of itself."""


@contextmanager
def telling(
    tell: Tell, work: Work[Item], context: Context, state: ReservationState, now: Callable[[], datetime]
) -> Iterator[Report]:
    """A report that passes on what is worth telling, and nothing any more once the block is left."""
    loop = asyncio.get_running_loop()
    due, over = loop.time() + _EVERY, False

    def report(progress: Progress) -> None:
        nonlocal due
        if not over and loop.time() >= due and not work.assignment.closed:
            due = loop.time() + _EVERY
            tell(publications.progress(context, state, progress, now()))

    try:
        yield report
    finally:
        over = True
