"""Making a reservation's environment exist, and making it gone: the calls to the runtimes, bounded in time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import structlog

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.errors import Refused
from consumer.catalog.identity import reservation_key
from consumer.catalog.quotas import Holding, Usage
from consumer.catalog.templates import Catalog
from consumer.handling.clock import utc_now
from consumer.handling.errors import Busy, Permanent, ProvisionerError, Queued, Transient
from consumer.handling.placing import Placing
from consumer.handling.ports import Environment, Progress, Provisioner, Report, Status
from consumer.handling.quotas import Ledger
from consumer.handling.runtimes import REASONS as LOOKING
from consumer.handling.runtimes import Look, Runtimes, at_most, naming
from consumer.handling.stopwatch import Stopwatch
from consumer.reservations import Sighting
from schemas.events import Resource
from schemas.outbound import same_way_in
from schemas.state import Phase, ReservationState

log = structlog.get_logger("moorage.lifecycle")

REASONS = {
    "start_timeout": "The environment did not come up in the time that was left for it.",
    "resource_busy": "The resource is still in use by the reservation before; its environment was not gone in time.",
    **LOOKING,
}


_PHASES = {
    "pulling": "Its image was still being fetched",
    "creating": "It was still being created",
    "scheduling": "No node of the cluster had taken it: …",
    "starting": "It was still being started",
    "waiting": "It ran, but was not ready: …",
    "addressing": "Its load balancer still had no address",
    "routing": "No Gateway had taken its HTTPRoute",
}
"""What was going on at each stage that runtimes report; the dots stand for its detail."""


class Lifecycle:
    """Provisions and releases through the runtimes at hand; raises `Refused` and `ProvisionerError`s.

    What is provisioned is claimed in `ledger`, until its caller has settled what came of it. Without a ledger, nothing
    but what is being made counts for quotas. `is_shut` says of a runtime that its circuit breaker is open.
    """

    def __init__(
        self,
        catalog: Catalog,
        provisioners: Mapping[str, Provisioner],
        *,
        instance: str,
        start_timeout: float,
        release_timeout: float,
        exclusive_wait: float = 600.0,
        ledger: Ledger | None = None,
        is_shut: Callable[[str], bool] = lambda runtime: False,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._catalog = catalog
        self._runtimes = Runtimes(provisioners, patience=release_timeout)
        self._instance = instance
        self._start_timeout = start_timeout
        self._release_timeout = release_timeout
        self._exclusive_wait = exclusive_wait
        self.ledger = ledger if ledger is not None else Ledger(catalog.quotas, is_shut=is_shut)
        self.placing = Placing(catalog, self._runtimes, self.ledger, instance=instance, is_shut=is_shut)
        self._claimed: set[str] = set()
        """Exclusive resources on which an environment is being made."""

        self._removing: Counter[str] = Counter()
        self._now = now

    async def provision(
        self,
        wanted: ReservationState,
        remembered: ReservationState | None,
        watch: Stopwatch,
        report: Report,
        *,
        elapsed: float,
    ) -> ReservationState:
        """`wanted` with its environment running, its access filled in, and notes on what is not as asked for.

        In a pool, it has been placed before.

        One that is remembered as running and still does stays as it is, whatever templates say by now. `elapsed` is
        how many seconds of the start timeout earlier attempts have used; `watch` times what is made, and `report` hears
        of each step.
        """
        if remembered is not None and (running := await self._announced(remembered)) is not None:
            fields = ("runtime", "template", "image", "image_digest", "notes", "cpu_millis", "memory_bytes")
            kept = {name: getattr(remembered, name) for name in fields}
            return _with_environment(wanted.model_copy(update=kept), running)
        spec = _pinned(self._catalog.resolve(wanted), remembered)
        runtime = self.placing.target(spec, remembered)
        provisioner = self._runtimes.named(runtime)
        start_timeout = self._start_timeout if spec.start_timeout is None else spec.start_timeout
        budget = min(start_timeout - elapsed, (wanted.end - self._now()).total_seconds())
        with naming(provisioner):
            async with at_most(budget, lambda: Permanent("start_timeout", _late(watch.latest))):
                await self._claim(provisioner, spec, remembered)
                async with self._alone(spec, wanted.resource):
                    watch.begin()
                    environment = await self._made(provisioner, spec, remembered, _reporter(spec, watch, report))
        made = {
            "runtime": runtime,
            "placed": None,
            "template": spec.template,
            "image": environment.image or spec.image,
            "image_digest": environment.image_digest,
            "notes": (*spec.notes, *environment.notes),
            "cpu_millis": spec.limits.cpu_millis if environment.cpu_millis is None else environment.cpu_millis,
            "memory_bytes": spec.limits.memory_bytes if environment.memory_bytes is None else environment.memory_bytes,
        }
        return _with_environment(wanted.model_copy(update=made), environment)

    async def still_runs(self, state: ReservationState) -> bool:
        """Whether the environment that was announced for `state` runs; True as well when nobody can tell."""
        try:
            running = await self._announced(state)
        except ProvisionerError:
            return True
        return running is not None and same_way_in(running.access, state.access)

    async def move(self, previous: ReservationState, wanted: ReservationState) -> None:
        """Remove the environment of `previous`, unless what is there is that of `wanted` already.

        A move may be handled again after a crash: its environment is in use by then.
        """
        try:
            spec = self._catalog.resolve(wanted)
        except Refused:
            spec = None
        if spec is not None and previous.runtime in spec.runtimes:
            found = await self._runtimes.find(previous.runtime, spec.key)
            if found is not None and found.spec_hash == spec.spec_hash:
                self.ledger.vacate(previous.reservation_id)
                return
        await self.release(previous)
        self.ledger.vacate(previous.reservation_id)

    async def release(self, state: ReservationState, *, everywhere: bool = False) -> bool:
        """Make sure that nothing of the reservation is left; True when there was something.

        Without a remembered runtime every one is asked: END may come for what another life of Moorage provisioned. So
        it is for a pending one, whose runtime is that of a former environment: what was begun since may be on another.
        """
        key = reservation_key(self._instance, state.reservation_id)
        runtime = None if everywhere or state.phase is Phase.PENDING else state.runtime
        if runtime and (state.environment or runtime in self._runtimes):
            self._runtimes.named(runtime)
            return await self._remove_from(self._runtimes.keys() & {runtime, state.placed}, key)
        return await self._remove_everywhere(key, state)

    def owing(self, state: ReservationState, wanted: ReservationState) -> ReservationState:
        """`state`, with the environment that was to be made for `wanted` and may still be there, on whatever runtime.

        It is removed as soon as that works, and before the reservation has another one.
        """
        try:
            name = self._catalog.resolve(wanted).name
        except Refused:  # it never came to making it, and what is still there is that of before
            name = reservation_key(self._instance, wanted.reservation_id)
        made = self.placing.pointing(state.model_copy(update={"placed": wanted.placed}), wanted)
        return made.model_copy(update={"environment": name})

    async def extend(self, environment: Environment, until: datetime) -> bool:
        """Have an environment show this end; False where its runtime cannot change that."""
        return await self._runtimes.extend(environment.runtime, environment.key, until)

    async def sweep(self, reservation_id: str, state: ReservationState | None = None) -> bool:
        """Remove whatever there is of a reservation, but where it runs; True when there was something."""
        return await self._remove_everywhere(reservation_key(self._instance, reservation_id), state, spare=_home(state))

    async def _remove_everywhere(self, key: str, state: ReservationState | None, *, spare: str | None = None) -> bool:
        sure = self.placing.must_answer(state)
        seen = await self.placing.seen(self._runtimes.keys() - {*sure, spare}, key)
        return await self._remove_from({*sure, *seen} - {spare}, key)

    async def _remove_from(self, asked: Collection[str], key: str) -> bool:
        async with at_most(self._release_timeout, lambda: Transient("release_timeout", REASONS["release_timeout"])):
            # All at once: one in trouble must not keep the others from removing what they have.
            removing = (self._remove(self._runtimes[name], key) for name in sorted(asked))
            removed = await asyncio.gather(*removing, return_exceptions=True)
        for outcome in removed:
            if isinstance(outcome, BaseException):
                raise outcome
        return any(removed)

    async def sighting(self, reservation_id: str, state: ReservationState | None = None) -> Sighting:
        """What there is of a reservation of which `state` is remembered, on any runtime that answers.

        Raises the error of one that does not, where nothing can be said without it.
        """
        key, home = reservation_key(self._instance, reservation_id), _home(state)
        there, silent = await self._runtimes.search(self._runtimes, key)
        needed = [home] if home is not None else self.placing.must_answer(state) if not there else []
        for error in (silent[name] for name in needed if name in silent):
            raise error
        strays = home is not None and bool(there.keys() - {home})
        ours = [each for runtime, each in there.items() if home in (None, runtime)]
        runs = any(each.status in (Status.RUNNING, Status.STARTING) for each in ours)
        ending = next((each.ending for each in ours if each.ending is not None), None)
        if runs or ending is None:
            return Sighting(exists=bool(there), runs=runs, strays=strays)
        return Sighting(True, False, exit_code=ending.exit_code, out_of_memory=ending.out_of_memory, strays=strays)

    async def everything(self, *, patience: float | None = None) -> Look:
        """All environments of this instance, and which runtimes did not say within so many seconds."""
        return await self._runtimes.everything(patience=patience)

    def removes(self, reservation_id: str) -> bool:
        """Whether something of the reservation is being removed at this moment."""
        return reservation_key(self._instance, reservation_id) in self._removing

    def restarts(self, resource: Resource) -> bool:
        """Whether an environment on this resource that was lost is made again."""
        template = self._catalog.template_for(resource)
        return template is not None and template.restart == "always"

    async def on_resource(self, resource_id: str) -> list[Environment]:
        """The environments that run on a resource, over all runtimes."""
        look = await self.everything()
        for error in look.silent.values():
            raise error
        return [each for each in look.environments if each.resource_id == resource_id]

    async def _claim(
        self, provisioner: Provisioner, spec: EnvironmentSpec, remembered: ReservationState | None
    ) -> None:
        """Have it count for its quotas. Raises `Refused` or `Queued` where there is no room.

        What is there already was let in before, by a member that crashed before it could say so.
        """
        usage = Usage(1, spec.limits.cpu_millis or 0, spec.limits.memory_bytes or 0)
        wanted = Holding(spec.user.id, spec.template, usage, (provisioner.runtime,))
        loop = asyncio.get_running_loop()
        try:
            self.ledger.claim(spec.reservation_id, wanted, at=loop.time())
        except (Refused, Queued) as error:
            if isinstance(error, Queued) and error.again:
                raise
            found = await provisioner.find(spec.key)
            if found is None or not _is_in_use(found, spec, remembered):
                raise
            self.ledger.claim(spec.reservation_id, wanted, at=loop.time(), exists=True)

    @asynccontextmanager
    async def _alone(self, spec: EnvironmentSpec, resource: Resource) -> AsyncIterator[None]:
        """While nobody else has the resource, where its template wants that. Raises `Busy` otherwise."""
        template = self._catalog.template_for(resource)
        if template is None or not template.exclusive:
            yield
            return
        busy = Busy("resource_busy", REASONS["resource_busy"], patience=self._exclusive_wait)
        if resource.id in self._claimed:
            raise busy
        self._claimed.add(resource.id)
        try:
            for name in spec.runtimes:
                there = await self._runtimes.list(name)
                if any(each.resource_id == resource.id and each.key != spec.key for each in there):
                    raise busy
            yield
        finally:
            self._claimed.remove(resource.id)

    async def _made(
        self, provisioner: Provisioner, spec: EnvironmentSpec, remembered: ReservationState | None, report: Report
    ) -> Environment:
        if (kept := await self._make_way(provisioner, spec, remembered)) is not None:
            return kept
        self.placing.touch(spec.reservation_id)
        return await provisioner.ensure(spec, report)

    async def _make_way(
        self, provisioner: Provisioner, spec: EnvironmentSpec, remembered: ReservationState | None
    ) -> Environment | None:
        """Remove what earlier attempts made to another spec, or return it where it may be in use.

        A failed reservation's leftovers were never announced. Other environments that run may have been, just before
        a crash or the loss of the state: same resource and same user keep them, though templates have changed.
        """
        if remembered is not None:
            elsewhere = remembered.environment and remembered.runtime != provisioner.runtime
            if elsewhere or remembered.placed not in (None, provisioner.runtime):
                await self.release(remembered)
        found = await provisioner.find(spec.key)
        if found is None or found.spec_hash == spec.spec_hash:
            return None
        if _was_announced(found, spec, remembered):
            return found
        log.info("environment_replaced", reservation=spec.reservation_id, environment=found.name)
        await self._remove(provisioner, spec.key, keep=True)
        return None

    async def _announced(self, state: ReservationState) -> Environment | None:
        """The environment that users were told of, if it still runs."""
        if state.phase is not Phase.ACTIVE or not state.runtime:
            return None
        found = await self._runtimes.find(state.runtime, reservation_key(self._instance, state.reservation_id))
        return found if found is not None and found.status is Status.RUNNING else None

    async def _remove(self, provisioner: Provisioner, key: str, *, keep: bool = False) -> bool:
        self._removing[key] += 1
        try:
            with naming(provisioner):
                return await provisioner.remove(key, keep=keep)
        finally:
            self._removing[key] -= 1
            if not self._removing[key]:
                del self._removing[key]


def _late(latest: Progress | None) -> str:
    """What took too long, as far as the runtime told."""
    sentence = REASONS["start_timeout"]
    if latest is None or (phase := _PHASES.get(latest.stage)) is None:
        return sentence
    return f"{sentence} {phase.replace('…', latest.detail.rstrip('.'))}."


def _reporter(spec: EnvironmentSpec, watch: Stopwatch, report: Report) -> Report:
    def step(progress: Progress) -> None:
        watch.note(progress)
        log.info(
            "environment_progress",
            reservation=spec.reservation_id,
            environment=spec.name,
            stage=progress.stage,
            detail=progress.detail,
        )
        report(progress)

    return step


def _pinned(spec: EnvironmentSpec, remembered: ReservationState | None) -> EnvironmentSpec:
    """`spec`, with the content that ran before: what is made again for a running reservation is the same."""
    if remembered is None or remembered.phase is not Phase.ACTIVE or remembered.image != spec.image:
        return spec
    return replace(spec, image_digest=remembered.image_digest)


def _with_environment(state: ReservationState, environment: Environment) -> ReservationState:
    return state.model_copy(update={"environment": environment.name, "access": environment.access})


def _is_in_use(found: Environment, spec: EnvironmentSpec, remembered: ReservationState | None) -> bool:
    """Whether an environment that was found is what provisioning would come to."""
    if found.spec_hash == spec.spec_hash:
        return found.status in (Status.RUNNING, Status.STARTING)
    return _was_announced(found, spec, remembered)


def _was_announced(found: Environment, spec: EnvironmentSpec, remembered: ReservationState | None) -> bool:
    """Whether its user may have been told of an environment that was made to another spec."""
    begun = remembered is None or remembered.phase is Phase.PENDING
    return begun and found.status is Status.RUNNING and _serves(found, spec)


def _serves(environment: Environment, spec: EnvironmentSpec) -> bool:
    return environment.resource_id == spec.resource.id and environment.user in (spec.user.id, spec.user.name)


def _home(state: ReservationState | None) -> str | None:
    """The runtime on which the reservation's environment belongs, if it has one that was announced."""
    return state.runtime if state is not None and state.phase is Phase.ACTIVE else None
