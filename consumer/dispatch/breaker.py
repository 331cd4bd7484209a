"""The circuit breaker of one group: while what it depends on does not answer, its work waits and all else goes on.

The pattern and its states are Michael Nygard's (Release It!): closed, everything runs; open, nothing does; half-open,
a few try. What opens it are consecutive failures, each told by the verdict `Outage`.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long. Times are seconds."""

    threshold: int = 5
    """Consecutive outages that open it."""

    probes: int = 3
    """How much work may try at the same time while it is half-open."""

    open_for: float = 5.0
    """Its first opening; each that follows without a success in between lasts twice as long as the one before."""

    max_open_for: float = 60.0
    rng: random.Random = field(default_factory=random.Random, compare=False, repr=False)


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Counts outages; `slots` is what it leaves of a group's concurrency limit."""

    __slots__ = ("_failures", "_openings", "_policy", "state")

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._openings = 0
        self.state = State.CLOSED

    def slots(self, limit: int) -> int:
        match self.state:
            case State.CLOSED:
                return limit
            case State.OPEN:
                return 0
            case State.HALF_OPEN:
                return min(limit, self._policy.probes)

    def succeeded(self) -> bool:
        """Note that the backend answered; True when that closed the breaker."""
        closing = self.state is not State.CLOSED
        self._failures = self._openings = 0
        self.state = State.CLOSED
        return closing

    def failed(self) -> float | None:
        """Note an outage; the seconds until `half_open` is due when it opened the breaker, None otherwise."""
        if self.state is State.OPEN:
            return None  # one that began before the others failed
        self._failures += 1
        if self.state is State.CLOSED and self._failures < self._policy.threshold:
            return None
        self.state = State.OPEN
        ceiling = min(self._policy.max_open_for, self._policy.open_for * 2.0 ** min(self._openings, 32))
        self._openings += 1
        return self._policy.rng.uniform(ceiling / 2, ceiling)

    def half_open(self) -> None:
        self.state = State.HALF_OPEN

    def patience(self) -> float:
        """How long work waits after an outage that did not open the breaker, jittered."""
        return self._policy.rng.uniform(0.0, self._policy.open_for / 5)
