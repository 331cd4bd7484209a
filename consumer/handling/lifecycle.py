"""Making a reservation's environment exist, and making it gone: the calls to the runtimes, bounded in time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.errors import Refused
from consumer.catalog.identity import reservation_key
from consumer.catalog.templates import Catalog
from consumer.handling.errors import Permanent, ProvisionerError, Transient
from consumer.handling.ports import Environment, Progress, Provisioner, Status
from schemas.events import Resource
from schemas.state import Phase, ReservationState

log = structlog.get_logger("moorage.lifecycle")

REASONS = {
    "start_timeout": "The environment did not come up in the time that was left for it.",
    "release_timeout": "The runtime did not remove the environment in time; it is tried again.",
    "look_timeout": "The runtime did not say in time what it runs; it is asked again.",
    "runtime_not_configured": "The environment needs a runtime that this installation does not run.",
}


@dataclass(frozen=True, slots=True)
class Provided:
    """A reservation with its environment, and sentences for the user on what is not as asked for."""

    state: ReservationState
    notes: tuple[str, ...] = ()


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
        if state is not None and state.runtime is not None:
            return state.runtime
        template = self._catalog.template_for(resource)
        return template.runtime if template is not None else None

    async def provision(
        self, wanted: ReservationState, remembered: ReservationState | None, *, elapsed: float
    ) -> Provided:
        """`wanted` with its environment running and its access filled in.

        One that is remembered as running and still does stays as it is, whatever templates say by now. `elapsed` is
        how many seconds of the start timeout earlier attempts have used.
        """
        if remembered is not None and (running := await self._announced(remembered)) is not None:
            kept = {"runtime": remembered.runtime, "template": remembered.template, "image": remembered.image}
            return Provided(_with_environment(wanted.model_copy(update=kept), running))
        spec = self._catalog.resolve(wanted)
        provisioner = self._runtime(spec.runtime)
        start_timeout = self._start_timeout if spec.start_timeout is None else spec.start_timeout
        budget = min(start_timeout - elapsed, (wanted.end - self._now()).total_seconds())
        async with _at_most(budget, Permanent("start_timeout", REASONS["start_timeout"])):
            if (environment := await self._make_way(provisioner, spec, remembered)) is None:
                environment = await provisioner.ensure(spec, self._reporter(spec))
        made = {"runtime": spec.runtime, "template": spec.template, "image": environment.image or spec.image}
        return Provided(_with_environment(wanted.model_copy(update=made), environment), spec.notes)

    async def still_runs(self, state: ReservationState) -> bool:
        """Whether the environment that was announced for `state` runs; True as well when nobody can tell."""
        try:
            running = await self._announced(state)
        except ProvisionerError:
            return True
        return running is not None and running.access == state.access

    async def move(self, previous: ReservationState, wanted: ReservationState) -> None:
        """Remove the environment of `previous`, unless what is there is that of `wanted` already.

        A move may be handled again after a crash: its environment is in use by then.
        """
        try:
            spec = self._catalog.resolve(wanted)
        except Refused:
            spec = None
        if spec is not None and spec.runtime == previous.runtime:
            found = await self._find(spec.runtime, spec.key)
            if found is not None and found.spec_hash == spec.spec_hash:
                return
        await self.release(previous)

    async def release(self, state: ReservationState) -> bool:
        """Make sure that nothing of the reservation is left; True when there was something.

        Without a remembered runtime every one is asked: END may come for what another life of Moorage provisioned.
        """
        key = reservation_key(self._instance, state.reservation_id)
        asked = tuple(self._provisioners.values())
        if state.runtime and (state.environment or state.runtime in self._provisioners):
            asked = (self._runtime(state.runtime),)
        async with _at_most(self._release_timeout, Transient("release_timeout", REASONS["release_timeout"])):
            # All at once: one in trouble must not keep the others from removing what they have.
            removed = await asyncio.gather(*(each.remove(key) for each in asked), return_exceptions=True)
        for outcome in removed:
            if isinstance(outcome, BaseException):
                raise outcome
        return any(removed)

    async def on_resource(self, resource_id: str) -> list[Environment]:
        """The environments that run on a resource, over all runtimes."""
        found: list[Environment] = []
        async with self._looking():
            for provisioner in self._provisioners.values():
                found += [each for each in await provisioner.list() if each.resource_id == resource_id]
        return found

    async def _make_way(
        self, provisioner: Provisioner, spec: EnvironmentSpec, remembered: ReservationState | None
    ) -> Environment | None:
        """Remove what earlier attempts made to another spec, or return it where it may be in use.

        A failed reservation's leftovers were never announced. Other environments that run may have been, just before
        a crash or the loss of the state: same resource and same user keep them, though templates have changed.
        """
        if remembered is not None and remembered.environment and remembered.runtime not in (None, spec.runtime):
            await self.release(remembered)
        found = await provisioner.find(spec.key)
        if found is None or found.spec_hash == spec.spec_hash:
            return None
        begun = remembered is None or remembered.phase is Phase.PENDING
        if begun and found.status is Status.RUNNING and _serves(found, spec):
            return found
        log.info("environment_replaced", reservation=spec.reservation_id, environment=found.name)
        await provisioner.remove(spec.key)
        return None

    async def _announced(self, state: ReservationState) -> Environment | None:
        """The environment that users were told of, if it still runs."""
        if state.phase is not Phase.ACTIVE or not state.runtime:
            return None
        found = await self._find(state.runtime, reservation_key(self._instance, state.reservation_id))
        return found if found is not None and found.status is Status.RUNNING else None

    async def _find(self, runtime: str, key: str) -> Environment | None:
        async with self._looking():
            return await self._runtime(runtime).find(key)

    def _looking(self) -> AbstractAsyncContextManager[None]:
        return _at_most(self._release_timeout, Transient("look_timeout", REASONS["look_timeout"]))

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


def _serves(environment: Environment, spec: EnvironmentSpec) -> bool:
    return environment.resource_id == spec.resource.id and environment.user in (spec.user.id, spec.user.name)


@asynccontextmanager
async def _at_most(seconds: float, otherwise: ProvisionerError) -> AsyncIterator[None]:
    if seconds <= 0:
        raise otherwise
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise otherwise from error
