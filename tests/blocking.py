"""A watch on event loops: code of ours that blocks one is a defect, however well the test went otherwise."""

import asyncio
import gc
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

LIMIT_SECONDS = 0.5
_TICK_SECONDS = 0.05
_NOTHING_SECONDS = 0.001
_OUR_PACKAGES = tuple(f"{Path(__file__).parents[1] / package}/" for package in ("consumer", "schemas"))


@contextmanager
def watch(ours: tuple[str, ...] = _OUR_PACKAGES) -> Iterator[list[str]]:
    """Collect a description of every call into code of ours that kept an event loop of this thread waiting too long.

    `ours` are beginnings of the paths of our source files.
    Time is counted in ticks of a watching thread: a tick in which this thread computed counts for what it computed, and
    one in which it only waited for a processor not at all, so that a machine busy with other things makes nobody look
    blocked; one in which it did nothing counts whole. Garbage collections do not count: how long they take is up to all
    that the tests before have left.
    Loops that are not asyncio's own (uvloop's) are not seen.
    """
    found: list[str] = []
    done = threading.Event()
    work = _Work()
    watcher = threading.Thread(target=_watch, args=(work, ours, done, found), name="loop watch", daemon=True)
    gc.callbacks.insert(0, work.collects)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()
        gc.callbacks.remove(work.collects)


class _Work:
    """What the thread that made this does."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._native = threading.get_native_id()
        self._collected: tuple[float, float | None] = (0.0, None)
        """Seconds of collections that ended, and when the one under way began; together, for the watching thread."""

    @property
    def computed(self) -> float:
        """Seconds for which it had a processor, garbage collections aside; always 0 on systems that do not tell."""
        if sys.platform != "linux":
            return 0.0
        now = time.clock_gettime(time.pthread_getcpuclockid(self.thread))
        collected, since = self._collected
        return now - collected - (0.0 if since is None else now - since)

    @property
    def waits_for_a_processor(self) -> bool:
        """Whether it would run if there were a processor for it; always False on systems that do not tell."""
        try:
            state = Path(f"/proc/self/task/{self._native}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return False
        return state == "R"

    def collects(self, phase: str, _: dict[str, int]) -> None:
        """The garbage collector calls this in the thread in which it works; see `gc.callbacks`."""
        if threading.get_ident() != self.thread:
            return
        collected, since = self._collected
        if phase == "start":
            self._collected = (collected, time.thread_time())
        elif since is not None:
            self._collected = (collected + time.thread_time() - since, None)


def _watch(work: _Work, ours: tuple[str, ...], done: threading.Event, found: list[str]) -> None:
    seen, held, computed = None, 0.0, work.computed
    while not done.wait(_TICK_SECONDS):
        now = _call_of_ours(sys._current_frames().get(work.thread), ours)
        before, computed = computed, work.computed
        if now and seen and all(a is b for a, b in zip(now, seen, strict=True)):
            reported = held >= LIMIT_SECONDS
            if computed - before > _NOTHING_SECONDS:
                held += computed - before
            elif not work.waits_for_a_processor:
                held += _TICK_SECONDS
            if held >= LIMIT_SECONDS and not reported:
                stack = traceback.extract_stack(sys._current_frames().get(work.thread))
                calls = [call for call in stack if call.filename.startswith(ours)] + stack[-1:]
                lines = "".join(traceback.format_list(calls))
                found.append(f"the event loop waits for more than {LIMIT_SECONDS:g} s for:\n{lines}")
        else:
            held = 0.0
        seen = now


def _call_of_ours(frame: FrameType | None, ours: tuple[str, ...]) -> tuple[FrameType, FrameType] | None:
    """The loop's running step and our outermost function in it; None when no loop runs code of ours.

    Both count: the step alone would blame us for a test that calls us often, and the function alone would blame a
    coroutine for the time in which it was suspended.
    """
    outermost = None
    while frame is not None:
        if frame.f_code is asyncio.Handle._run.__code__:
            return (frame, outermost) if outermost else None
        if frame.f_code.co_filename.startswith(ours):
            outermost = frame
        frame = frame.f_back
    return None
