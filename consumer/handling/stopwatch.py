"""Where the time of a provisioning goes, as its provisioner's reports of progress tell it."""

import asyncio

from consumer.handling.ports import Progress
from schemas.outbound import Timings

_PART_OF_STAGE = {"pulling": "pulled", "creating": "started", "starting": "started", "waiting": "ready"}


class Stopwatch:
    """Times one attempt at provisioning by the event loop's clock; `admitted_at` is when its event was taken in."""

    def __init__(self, admitted_at: float) -> None:
        self._admitted_at = admitted_at
        self._lap: float | None = None
        self._part = "started"
        self._parts: dict[str, float] = {}
        self.latest: Progress | None = None
        """The stage that began last, remarks among them."""

    def begin(self) -> None:
        """The queue is over: from now on an environment is made. Whatever was timed before counts as queueing."""
        self._lap = asyncio.get_running_loop().time()
        self._part = "started"
        self.latest = None
        self._parts = {"queued": self._lap - self._admitted_at}

    def note(self, progress: Progress) -> None:
        """A stage has begun, unless it is a remark."""
        self.latest = progress
        if (part := _PART_OF_STAGE.get(progress.stage)) is not None:
            self._finish_lap()
            self._part = part
        if progress.pulled:
            self._finish_lap()
            making = self._parts.get("pulled", 0.0) + self._parts.get("started", 0.0)
            self._parts["pulled"] = min(progress.pulled, making)
            self._parts["started"] = making - self._parts["pulled"]

    def timings(self) -> Timings | None:
        """Up to now, to the millisecond; None when nothing was made."""
        if self._lap is None:
            return None
        self._finish_lap()
        parts = {part: round(max(0.0, seconds), 3) for part, seconds in self._parts.items()}
        return Timings(**parts, total=round(sum(parts.values()), 3))

    def _finish_lap(self) -> None:
        if self._lap is None:
            return
        now = asyncio.get_running_loop().time()
        self._parts[self._part] = self._parts.get(self._part, 0.0) + now - self._lap
        self._lap = now
