"""What time it is, for decisions: the wall clock, unless it jumps."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

log = structlog.get_logger("moorage.clock")

_TOLERANCE = 5.0
"""Seconds that the wall clock may be ahead or behind without anybody asking why."""

_PATIENCE = 600.0
"""Seconds for which a wall clock that jumped must stay where it is until it is believed."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class SteadyClock:
    """The wall clock's time, carried on by the monotonic clock while the wall clock disagrees with it.

    A clock that is set wrong for some minutes must not end every reservation of the next hour, nor forget those of the
    last. One that was set right is believed after ten minutes.
    """

    def __init__(self, wall: Callable[[], datetime] = utc_now, ticks: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._ticks = ticks
        self._anchor = wall(), ticks()
        self._doubt: tuple[float, float] | None = None
        """How far off the wall clock was when it jumped, and when that was."""

    def now(self) -> datetime:
        wall, tick = self._wall(), self._ticks()
        expected = self._anchor[0] + timedelta(seconds=tick - self._anchor[1])
        off = (wall - expected).total_seconds()
        if abs(off) > _TOLERANCE and not self._settled(off, tick):
            return expected
        self._anchor, self._doubt = (wall, tick), None
        return wall

    def _settled(self, off: float, tick: float) -> bool:
        """Whether the wall clock has been where it jumped to for long enough."""
        if self._doubt is None or abs(off - self._doubt[0]) > _TOLERANCE:
            self._doubt = off, tick
            log.warning("clock_jumped", seconds=round(off, 1), believed_in=_PATIENCE)
        return tick - self._doubt[1] >= _PATIENCE
