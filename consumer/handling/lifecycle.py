"""Making a reservation's environment exist, and making it gone: the calls to the runtimes, bounded in time."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import structlog

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import reservation_key
from consumer.catalog.templates import Catalog
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Environment, Progress, Provisioner, Status
from schemas.events import Resource
from schemas.state import Phase, ReservationState

log = structlog.get_logger("moorage.lifecycle")

REASONS = {
    "start_timeout": "The environment did not come up in the time that was left for it.",
    "release_timeout": "The runtime did not remove the environment in time; it is tried again.",
    "runtime_not_configured": "The template names a runtime that this installation does not run.",
}


def utc_now() -> datetime:
    return datetime.now(UTC)


class Lifecycle:
    """Provisions and releases through the runtimes at hand; raises `Refused` and `ProvisionerError`s."""

    def __init__(
        self,
        catalog: Catalog,
        provisioners: Mapping[str, Provisioner],
        *,
        instance: str,
        start_timeout: float,
        release_timeout: float,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._catalog = catalog
        self._provisioners = provisioners
        self._instance = instance
        self._start_timeout = start_timeout
        self._release_timeout = release_timeout
        self._now = now

    def runtime_for(self, state: ReservationState | None, resource: Resource) -> str | None:
        """The runtime that work on this reservation will need, as far as can be told beforehand."""
        if state is not None and state.phase is Phase.RELEASED:
            return None
        if state is not None and state.runtime is not None:
            return state.runtime
        template = self._catalog.template_for(resource)
        return template.runtime if template is not None else None

    async def provision(
        self, wanted: ReservationState, remembered: ReservationState | None, *, elapsed: float
    ) -> ReservationState:
        """`wanted` with its environment running and its access filled in.

        One that is remembered as running and still does stays as it is, whatever templates say by now. `elapsed` is
        how many seconds of the start timeout earlier attempts have used.
        """
        key = reservation_key(self._instance, wanted.reservation_id)
        if remembered is not None and remembered.phase is Phase.ACTIVE and remembered.runtime:
            running = await self._runtime(remembered.runtime).find(key)
            if running is not None and running.status is Status.RUNNING:
                kept = {"runtime": remembered.runtime, "template": remembered.template, "image": remembered.image}
                return _with_environment(wanted.model_copy(update=kept), running)
        spec = self._catalog.resolve(wanted)
        provisioner = self._runtime(spec.runtime)
        budget = min(self._start_timeout - elapsed, (wanted.end - self._now()).total_seconds())
        async with _at_most(budget, Permanent("start_timeout", REASONS["start_timeout"])):
            await self._make_way(provisioner, spec)
            environment = await provisioner.ensure(spec, self._reporter(spec))
        made = {"runtime": spec.runtime, "template": spec.template, "image": spec.image}
        return _with_environment(wanted.model_copy(update=made), environment)

    async def release(self, state: ReservationState) -> bool:
        """Make sure that nothing of the reservation is left; True when there was something.

        Without a remembered runtime every one is asked: END may come for what another life of Moorage provisioned.
        """
        key = reservation_key(self._instance, state.reservation_id)
        known = self._provisioners.get(state.runtime) if state.runtime else None
        removed = False
        async with _at_most(self._release_timeout, Transient("release_timeout", REASONS["release_timeout"])):
            for provisioner in [known] if known else self._provisioners.values():
                removed |= await provisioner.remove(key)
        return removed

    async def on_resource(self, resource_id: str) -> list[Environment]:
        """The environments that run on a resource, over all runtimes."""
        found: list[Environment] = []
        async with _at_most(self._release_timeout, Transient("release_timeout", REASONS["release_timeout"])):
            for provisioner in self._provisioners.values():
                found += [each for each in await provisioner.list() if each.resource_id == resource_id]
        return found

    async def _make_way(self, provisioner: Provisioner, spec: EnvironmentSpec) -> None:
        """Remove what an earlier attempt made to another spec: it was never announced, so nobody uses it."""
        found = await provisioner.find(spec.key)
        if found is not None and found.spec_hash != spec.spec_hash:
            log.info("environment_replaced", reservation=spec.reservation_id, environment=found.name)
            await provisioner.remove(spec.key)

    def _runtime(self, name: str) -> Provisioner:
        if (provisioner := self._provisioners.get(name)) is None:
            raise Permanent("runtime_not_configured", REASONS["runtime_not_configured"])
        return provisioner

    def _reporter(self, spec: EnvironmentSpec) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            log.info(
                "environment_progress",
                reservation=spec.reservation_id,
                environment=spec.name,
                stage=progress.stage,
                detail=progress.detail,
            )

        return report


def _with_environment(state: ReservationState, environment: Environment) -> ReservationState:
    return state.model_copy(update={"environment": environment.name, "access": environment.access})


@asynccontextmanager
async def _at_most(seconds: float, otherwise: Exception) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            yield
    except TimeoutError as error:
        raise otherwise from error
