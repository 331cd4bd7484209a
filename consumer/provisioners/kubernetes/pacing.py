"""Not asking more of an API than it bears: a bucket of tokens, filled at a steady rate."""

import asyncio


class Pace:
    """At most `rate` requests a second in the long run, and `burst` at once. First come, first served."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens = burst
        self._filled_at: float | None = None

    async def turn(self) -> None:
        """Return when it is the caller's turn."""
        # Whoever finds no token takes one that is still to come, and waits until it has.
        now = asyncio.get_running_loop().time()
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
