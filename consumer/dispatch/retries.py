"""When to try again: exponential backoff with full jitter, bounded in attempts and in time."""

import random
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of trying again. Times are seconds.

    The wait before attempt n + 1 is drawn uniformly from [0, min(max_delay, base_delay * 2^(n-1))], the "full
    jitter" of the AWS Architecture Blog's "Exponential Backoff And Jitter": work that failed together does not
    come back together.
    """

    max_attempts: int = 6
    max_elapsed: float = 300.0
    base_delay: float = 0.5
    max_delay: float = 30.0
    rng: random.Random = field(default_factory=random.Random, compare=False, repr=False)

    def delay(self, attempt: int, elapsed: float, retry_after: float | None = None) -> float | None:
        """The wait after failed attempt number `attempt` (from 1), or None when it was the last.

        `retry_after` is the runtime's own wish and is never undercut.
        """
        if attempt >= self.max_attempts:
            return None
        ceiling = min(self.max_delay, self.base_delay * 2.0 ** min(attempt - 1, 32))
        wait = self.rng.uniform(0.0, ceiling)
        if retry_after is not None:
            wait = max(wait, retry_after)
        return wait if elapsed + wait <= self.max_elapsed else None
