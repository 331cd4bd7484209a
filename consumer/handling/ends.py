"""Telling runtimes until when their environments go on, where what they show of it is not what is remembered.

What they show counts for whoever does not know the reservation: another member that finds a left-over, an operator.
Nobody waits for it. What could not be told is told after the next comparison.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import structlog

from consumer.handling.errors import ProvisionerError, Unavailable
from consumer.handling.lifecycle import Lifecycle
from consumer.handling.ports import Environment, Status
from schemas.state import Phase
from schemas.state_index import StateIndex

log = structlog.get_logger("moorage.ends")

_TOLD_AT_ONCE = 4
"""Environments that one runtime is told of at a time."""

_COMPARED_AT_ONCE = 1_000
"""Environments that are compared between two turns of the event loop: a few milliseconds."""


class Ends:
    """`remembered` is what this member has to say of a reservation; None when it is not its own."""

    def __init__(
        self, lifecycle: Lifecycle, remembered: Callable[[str], StateIndex | None], now: Callable[[], datetime]
    ) -> None:
        self._lifecycle = lifecycle
        self._remembered = remembered
        self._now = now

    async def tell(self, environments: Iterable[Environment]) -> None:
        """Once. Raises nothing."""
        differing: dict[str, list[Environment]] = {}
        for count, each in enumerate(environments, 1):
            if self._wanted(each) is not None:
                differing.setdefault(each.runtime, []).append(each)
            if count % _COMPARED_AT_ONCE == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*(self._some_of(each) for each in differing.values() for _ in range(_TOLD_AT_ONCE)))

    def _wanted(self, environment: Environment) -> datetime | None:
        """The end that its runtime is to be told; None where there is nothing to tell."""
        index = self._remembered(environment.reservation_id)
        if index is None or index.phase is not Phase.ACTIVE or index.runtime != environment.runtime:
            return None
        if environment.status is Status.DYING or self._lifecycle.removes(environment.reservation_id):
            return None
        shown, renew_at = environment.expires_at, environment.renew_at
        known, now = shown is not None and shown.timestamp() == index.end, self._now()
        if known and (renew_at is None or renew_at > now or index.end <= now.timestamp()):
            return None
        return datetime.fromtimestamp(index.end, UTC)

    async def _some_of(self, environments: list[Environment]) -> None:
        """Those of one runtime that nobody else has taken; none any more once it does not answer."""
        while environments:
            environment = environments.pop()
            if (until := self._wanted(environment)) is None:  # it has ended, or is somebody else's by now
                continue
            about = {"reservation": environment.reservation_id, "environment": environment.name}
            try:
                if await self._lifecycle.extend(environment, until):
                    log.info("end_told", runtime=environment.runtime, until=until.isoformat(), **about)
                await asyncio.sleep(0)  # not every runtime has to wait for an answer
            except ProvisionerError as error:
                log.warning("end_not_told", runtime=environment.runtime, code=error.code, why=error.message, **about)
                if isinstance(error, Unavailable):
                    environments.clear()
