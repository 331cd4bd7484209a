"""Members of one group that are started, stopped and killed at random."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.installation import Installation
from tests.support.service import DoubleService
from tests.support.waiting import eventually


@dataclass
class Member:
    """One that may be running, on its way out, or gone. A static one is known again when it comes back."""

    name: str
    static: bool
    process: DoubleService | None = None

    @property
    def consuming(self) -> bool:
        return self.process is not None and bool(self.process.events("state_restored"))


@dataclass
class Toggled:
    """What was done to the members, and how the ones that were asked to stop ended."""

    starts: int = 0
    stops: int = 0
    kills_ms: list[float] = field(default_factory=list)
    """When, as Unix milliseconds."""

    exit_codes: list[int] = field(default_factory=list)


class Members:
    """Three members, all running at first. `kills` is the share of kills -9 among the ends."""

    def __init__(self, ours: Installation, *, seed: int, kills: float, **settings: str) -> None:
        self._ours = ours
        self._settings = settings
        self._rng = random.Random(seed)  # noqa: S311 - moments, not secrets
        self._kills = kills
        self._members = [Member("one", static=True), Member("two", static=False), Member("three", static=False)]
        self._leaving: list[DoubleService] = []
        self.toggled = Toggled()

    def toggle_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._toggle(self._rng.choice(self._members))
            time.sleep(self._rng.uniform(0.2, 4.0))

    def start_all(self) -> None:
        for member in self._members:
            if member.process is None:
                self._start(member)
        for member in self._members:
            if member.process is not None:
                member.process.wait_until_consuming()

    def stop_all(self) -> None:
        for member in self._members:
            self._stop(member)
        self._see_off(wait=True)

    def kill_all(self) -> None:
        """Nothing is left of them, whatever happened."""
        for process in (*self._leaving, *(member.process for member in self._members)):
            if process is not None:
                process.kill()

    def _toggle(self, member: Member) -> None:
        self._see_off(wait=False)
        if member.process is None:
            self._start(member)
        elif self._rng.random() < self._kills:
            member.process.kill()
            self.toggled.kills_ms.append(time.time() * 1000)
            member.process = None
        elif member.consuming:  # before that a signal finds nobody who would answer
            self._stop(member)

    def _start(self, member: Member) -> None:
        # A static member must be gone before it comes back, or it fences itself off.
        eventually(lambda: all(process.name != member.name for process in self._still_leaving()), what="it is gone")
        settings = self._settings | ({"MOORAGE_GROUP_INSTANCE": member.name} if member.static else {})
        member.process = self._ours.launch(member.name, kind=DoubleService, **settings)
        self.toggled.starts += 1

    def _stop(self, member: Member) -> None:
        if member.process is not None:
            member.process.terminate()
            self._leaving.append(member.process)
            member.process = None
            self.toggled.stops += 1

    def _still_leaving(self) -> list[DoubleService]:
        self._see_off(wait=False)
        return self._leaving

    def _see_off(self, *, wait: bool) -> None:
        for process in list(self._leaving):
            if wait or process.process.poll() is not None:
                self.toggled.exit_codes.append(process.exit_code())
                self._leaving.remove(process)


@contextmanager
def members(ours: Installation, *, seed: int, kills: float, **settings: str) -> Iterator[Members]:
    group = Members(ours, seed=seed, kills=kills, **settings)
    try:
        group.start_all()
        yield group
    finally:
        group.kill_all()
