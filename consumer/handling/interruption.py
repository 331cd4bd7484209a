"""Breaking off what has become pointless: an environment that is still being made for a reservation that has ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from consumer.dispatch import Work
from consumer.handling.records import Item


class Interrupted(Exception):
    """The reservation's end came in while this was going on; it is handled next, and removes what was made so far."""


@asynccontextmanager
async def interruptible(work: Work[Item]) -> AsyncIterator[None]:
    """Cancel the body when `work` is interrupted, or do not begin it. Raises `Interrupted`."""
    if work.interrupted:
        raise Interrupted
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as scope:
            work.on_interrupt = lambda: scope.reschedule(loop.time())
            yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise Interrupted from None
    finally:
        work.on_interrupt = None
