"""How many dead letters may be written: so many at once, and then only as many as successes and time earn.

A token bucket. A defect or a misconfiguration that fails everything would otherwise empty the input into the
dead-letter topic within minutes; with it, what failed is held, intake pauses, and an operator has time to look.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeadLetterBudget:
    """`burst` is the most that can be saved up, and what there is at the start: one at least."""

    burst: int = 100
    per_success: float = 0.1
    per_second: float = 0.1


_ROUNDING = 1e-6


class Allowance:
    """The tokens there are. Times are seconds of the event loop's clock."""

    __slots__ = ("_budget", "_counted_at", "_tokens")

    def __init__(self, budget: DeadLetterBudget) -> None:
        self._budget = budget
        self._tokens = float(budget.burst)
        self._counted_at: float | None = None

    def earn(self) -> None:
        """Note a success."""
        self._tokens = min(float(self._budget.burst), self._tokens + self._budget.per_success)

    def take(self, count: int, now: float) -> bool:
        """Pay for so many dead letters at once; False, and nothing is paid, when there is too little."""
        self._count(now)
        if self._tokens < self._price(count) - _ROUNDING:
            return False
        self._tokens -= self._price(count)
        return True

    def wait(self, count: int) -> float:
        """Seconds until time alone will have earned what so many cost; infinite if it earns nothing."""
        if not self._budget.per_second:
            return math.inf
        return max(0.0, self._price(count) - self._tokens) / self._budget.per_second

    def _price(self, count: int) -> int:
        return min(count, self._budget.burst)  # more than can ever be saved up costs all there is

    def _count(self, now: float) -> None:
        if self._counted_at is not None:
            earned = (now - self._counted_at) * self._budget.per_second
            self._tokens = min(float(self._budget.burst), self._tokens + earned)
        self._counted_at = now
