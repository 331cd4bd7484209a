"""Having at hand what starts will need: images of reservations yet to come are fetched beforehand, in the background.

Nothing depends on it. What could not be fetched is logged and left to the start, which needs it anyway.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.errors import Refused
from consumer.catalog.templates import Catalog
from consumer.handling.clock import utc_now
from consumer.handling.errors import ProvisionerError
from consumer.handling.ports import Progress, Provisioner
from schemas.state import Phase, ReservationState

log = structlog.get_logger("moorage.preparation")

_AT_ONCE = 2
"""Preparations at a time: those that are starting now come first, and share the way to the registry."""

_AGAIN = 600.0
"""Seconds in which the same image is not asked for again."""

_TAKES_AT_MOST = 1800.0
_KNOWN_AT_MOST = 1000
"""Images that wait or were asked for lately; users may be allowed to name any number of them."""

_What = tuple[str, str]
"""Runtime and image."""


class Preparation:
    """Prepares what templates with `prepull` will run. `expect` says what comes, `run` does it, one image only once."""

    def __init__(
        self, catalog: Catalog, provisioners: Mapping[str, Provisioner], *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._catalog = catalog
        self._provisioners = provisioners
        self._now = now
        self._wanted: asyncio.Queue[tuple[str, EnvironmentSpec]] = asyncio.Queue(_KNOWN_AT_MOST)
        self._lately: dict[_What, float] = {}
        """Until when each is not asked for again, oldest first."""

    def expect(self, state: ReservationState) -> None:
        """Have what a reservation yet to come will need fetched, if its template says so. Does not wait for it."""
        template = self._catalog.template_for(state.resource)
        if template is None or not template.prepull or state.phase is not Phase.PENDING or state.end <= self._now():
            return
        try:
            spec = self._catalog.resolve(state)
        except Refused:
            return  # its start will say so
        now = asyncio.get_running_loop().time()
        self._lately = {what: until for what, until in self._lately.items() if until > now}
        for runtime in spec.runtimes:  # which engine of a pool it will be is not known yet
            what = runtime, spec.image
            if what not in self._lately and len(self._lately) < _KNOWN_AT_MOST and not self._wanted.full():
                self._lately[what] = now + _AGAIN
                self._wanted.put_nowait((runtime, spec))

    async def run(self) -> None:
        """Prepare what is expected, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(_AT_ONCE):
                tasks.create_task(self._work(), name=f"preparation-{number}")

    async def _work(self) -> None:
        while True:
            runtime, spec = await self._wanted.get()
            try:
                async with asyncio.timeout(_TAKES_AT_MOST):
                    await self._provisioners[runtime].prepare(spec, _ignore)
                log.info("image_prepared", runtime=runtime, image=spec.image)
            except ProvisionerError as error:
                self._failed(runtime, spec, error.code, error.message)
            except TimeoutError:
                self._failed(runtime, spec, "start_timeout", "It takes too long.")
            except Exception:
                log.exception("preparation_failed", runtime=runtime, image=spec.image)

    def _failed(self, runtime: str, spec: EnvironmentSpec, code: str, why: str) -> None:
        self._lately.pop((runtime, spec.image), None)  # whoever is expected next is worth another try
        log.warning("image_not_prepared", runtime=runtime, image=spec.image, code=code, why=why)


def _ignore(_: Progress) -> None:
    """Nobody waits for it yet."""
