"""An event loop whose clock jumps to the next timer when nothing else is left to do.

Hours of backoff pass in milliseconds, and in the same order every time. It is for code that waits for timers, futures
and events; to threads and sockets no time seems to pass while they work.

In synchronous tests (Hypothesis), `run(main())`. For the asynchronous tests of a folder, in its `conftest.py`:

    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], AbstractEventLoop]]:
        return {"virtual clock": VirtualClockLoop}
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 1.0
"""Real seconds in which something from outside, such as a thread, may still happen when nothing is scheduled."""


class Deadlock(Exception):
    """Every task waits for something that cannot happen any more."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Time begins at 0 and stands still while anything can run."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)
        # What asyncio takes for simultaneous. Its nanosecond is less than a float can tell after a few months.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._clock.now

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What asyncio would only log, such as an error in a callback, ends the run: nobody reads a test's log."""
        raise RuntimeError(context["message"]) from context.get("exception")


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` under a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main)


class _Clock(selectors.DefaultSelector):  # type: ignore[misc,valid-type] # which class it is depends on the platform
    """The loop blocks in `select` until its next timer is due, so this is where that time can be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(_PATIENCE if timeout is None else 0)
        if ready:
            return ready
        if timeout is None:
            raise Deadlock("no timer is set and nothing is ready: what the tasks wait for will never happen")
        self.now += max(timeout, 0.0)
        return []
