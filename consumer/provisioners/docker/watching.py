"""Hearing from the engine that containers ended, instead of asking it again and again."""

import asyncio
from collections.abc import Callable

import structlog

from consumer.catalog.identity import INSTANCE, RESERVATION_ID
from consumer.dispatch import RetryPolicy
from consumer.handling.errors import ProvisionerError
from consumer.provisioners.docker.engine import Engine

log = structlog.get_logger("moorage.docker")

_KEEP_TRYING = RetryPolicy(max_attempts=2**31, max_elapsed=float("inf"), base_delay=1.0, max_delay=30.0)


async def watch(engine: Engine, instance: str, ended: Callable[[str], None]) -> None:
    """Call `ended` with the reservation of each of our containers that ends, until cancelled.

    An engine that hangs up is listened to again from where it stopped talking, as far back as it remembers.
    """
    since: str | None = None
    attempt = 0
    while True:
        try:
            async for event in engine.events(
                since, type="container", event=engine.dialect.death, label=f"{INSTANCE}={instance}"
            ):
                attempt = 0
                since = _after(event.get("timeNano")) or since
                reservation_id = ((event.get("Actor") or {}).get("Attributes") or {}).get(RESERVATION_ID)
                if reservation_id:
                    ended(reservation_id)
        except ProvisionerError as error:
            log.debug("not_watching", why=error.message)
        attempt += 1
        await asyncio.sleep(_KEEP_TRYING.delay(attempt, 0.0) or 0.0)


def _after(nanoseconds: object) -> str | None:
    """The moment after this one, as the engine reads it."""
    if not isinstance(nanoseconds, int):
        return None
    seconds, rest = divmod(nanoseconds + 1, 10**9)
    return f"{seconds}.{rest:09d}"
