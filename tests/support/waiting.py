"""Waiting for something to become true, which on a busy machine takes as long as it takes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], *, what: str, seconds: float = 60.0, every: float = 0.05) -> T:
    """The first true value that `look` returns. Fails the test when there was none for `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what} (last seen: {seen!r})")
        time.sleep(every)
