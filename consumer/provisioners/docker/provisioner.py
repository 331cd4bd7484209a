"""The Docker runtime as a `Provisioner`."""

import asyncio
import builtins
import contextlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import INSTANCE, KEY, MANAGED_BY
from consumer.catalog.needs import Needs
from consumer.catalog.quantities import format_bytes
from consumer.catalog.security import NON_ROOT
from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Environment, Finding, Progress, Report, Status
from consumer.handling.usage import Usage
from consumer.provisioners.docker.container import Container, creation, supports_storage_limit
from consumer.provisioners.docker.contents import Contents
from consumer.provisioners.docker.diagnosis import diagnose
from consumer.provisioners.docker.dialects import lets_limits_pass
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.docker.errors import Conflicting, Missing, NoStorageLimits, is_of_network
from consumer.provisioners.docker.hardening import confines_system_calls, refuse_root
from consumer.provisioners.docker.images import Content
from consumer.provisioners.docker.keys import install_key
from consumer.provisioners.docker.networks import Networks
from consumer.provisioners.docker.options import ISOLATED, PRIVATE, DockerOptions
from consumer.provisioners.docker.pulls import ImagePulls
from consumer.provisioners.docker.stats import usage_of
from consumer.provisioners.docker.volumes import Volumes
from consumer.provisioners.docker.watching import watch
from consumer.provisioners.inflight import InFlight
from consumer.provisioners.labels import refuse_foreign, refuse_other_spec
from consumer.provisioners.readiness import Look, said, until_ready

_LOOK_AGAIN = 0.1
_GONE_WITHIN = 10.0
_PORTS_TRIED = 3
"""Ports that the engine chose itself: Podman does so before it takes them, and says so when it starts the container."""

_MADE_TO_END = (128 + signal.SIGTERM, 128 + signal.SIGKILL)

log = structlog.get_logger("moorage.docker")


class DockerProvisioner:
    """Runs each environment as a container of a Docker Engine, or of Podman, which serves the same API.

    What exists is asked of the engine every time; nothing is remembered that a restart would lose.
    """

    def __init__(self, options: DockerOptions) -> None:
        self._options = options
        self._engine = Engine(options)
        self._pulls = ImagePulls(self._engine, options.pull_timeout)
        self._contents = Contents(self._engine, self._pulls)
        self._creations = InFlight()
        self._networks = Networks(self._engine, options)
        self._storage_limits: bool | None = None
        self._volumes = Volumes(self._engine, options.instance)
        self._examined = False

    @property
    def runtime(self) -> str:
        return self._options.runtime

    async def ensure(self, spec: EnvironmentSpec, report: Report) -> Environment:
        content: Content | None = None
        deadline, tries = asyncio.get_running_loop().time() + self._options.create_timeout, _PORTS_TRIED
        while True:
            if container := await self._adoptable(spec):
                return await self._started(spec, container.id, was=container.state, report=report)
            try:
                # Once: who waits for a name to become free does not pull again each time it looks.
                content = content or await self._contents.have(spec, report)
                new = await self._create(spec, content, report)
            except Conflicting:
                await self._refuse_foreign_holder(spec)
            else:
                report(Progress("starting", spec.name))
                try:
                    return await self._started(spec, new, was=None, report=report)
                except Transient as error:
                    tries -= 1
                    if error.code != "port_taken" or tries == 0 or any(port.host for port in spec.ports):
                        raise
                    continue  # somebody took what the engine had chosen: another container has another port
            # Ours, but made this moment by somebody else, or on its way out: it shows under its label soon.
            if asyncio.get_running_loop().time() > deadline:
                raise Transient("runtime_busy", "Something else is still at work on this environment.")
            await asyncio.sleep(_LOOK_AGAIN)

    async def prepare(self, spec: EnvironmentSpec, report: Report) -> None:
        if spec.pull != "never":
            await self._contents.have(spec, report)

    async def find(self, key: str) -> Environment | None:
        found = min(await self._of(key), key=lambda each: each.status is Status.DYING, default=None)
        if found is not None and found.status is Status.STOPPED:  # how it ended, only inspecting tells
            found = await self._engine.inspect(found.id)
        return found.environment(self._options) if found is not None else None

    async def extend(self, key: str, until: datetime) -> bool:
        return False  # an engine's labels stay what they were when a container was made

    async def remove(self, key: str, *, keep: bool = False) -> bool:
        await self._creations.settled(key)
        found = await self._of(key)
        for container in found:
            if container.status in (Status.RUNNING, Status.STARTING):
                with contextlib.suppress(Missing, Conflicting, Transient):  # then it is ended by force
                    await self._engine.stop(container.id)
            await self._delete(container.id)
        # Only now: what a container has, the engine does not let go of.
        volume = not keep and await self._volumes.remove(key)
        network = await self._networks.leave(key)
        return volume or network or bool(found)

    async def list(self) -> list[Environment]:
        found = await self._engine.containers(f"{MANAGED_BY}=moorage", f"{INSTANCE}={self._options.instance}")
        await self._networks.sweep({container.labels[KEY] for container in found if KEY in container.labels})
        return [container.environment(self._options) for container in found if KEY in container.labels]

    async def usage(self, key: str) -> Usage | None:
        for container in await self._of(key):
            if container.status is Status.RUNNING:
                read, shown = await asyncio.gather(self._engine.stats(container.id), self._engine.inspect(container.id))
                return usage_of(read, shown) if read is not None and shown is not None else None
        return None

    async def watch(self, ended: Callable[[str], None]) -> None:
        await watch(self._engine, self._options.instance, ended)

    async def ping(self) -> None:
        try:
            await self._engine.ping()
            info = await self._engine.info()
        except (Transient, Permanent) as error:
            raise Unavailable(f"What answers is not {self._options.dialect.engine}, or does not work.") from error
        if self._options.network in (ISOLATED, PRIVATE) and not self._options.dialect.keeps_apart:
            log.warning("environments_not_kept_apart", runtime=self.runtime, why="it has no such networks")
        if lets_limits_pass(info):
            log.warning("limits_not_enforced", runtime=self.runtime, why="rootless with cgroups v1")

    async def diagnose(self, needs: Needs) -> Sequence[Finding]:
        return await diagnose(self._engine, self._options, needs)

    async def close(self) -> None:
        await self._pulls.close()
        await self._creations.close()
        await self._networks.close()
        await self._engine.close()

    async def _of(self, key: str) -> builtins.list[Container]:
        instance = self._options.instance
        return await self._engine.containers(f"{MANAGED_BY}=moorage", f"{INSTANCE}={instance}", f"{KEY}={key}")

    async def _adoptable(self, spec: EnvironmentSpec) -> Container | None:
        """The container of this very spec, whether or not it runs; dying ones are waited out first."""
        for container in await self._of(spec.key):
            if container.status is not Status.DYING:
                refuse_other_spec(container.labels, spec)
                return container
            # Deleting what is being deleted is waiting for it, and finishes what the engine once gave up on.
            await self._delete(container.id)
        return None

    async def _refuse_foreign_holder(self, spec: EnvironmentSpec) -> None:
        holder = await self._engine.inspect(spec.name)
        if holder is not None:
            refuse_foreign(holder.labels, self._options.instance, spec)

    async def _create(self, spec: EnvironmentSpec, content: Content, report: Report) -> str:
        """The id of a new container. Raises `Conflicting` when its name is taken."""
        report(Progress("creating", spec.name))
        await self._examine()
        await self._creations.run(spec.key, self._volumes.ensure(spec))
        await self._refuse_the_idle(spec)
        again = False
        while True:
            with_storage_limit = await self._limits_storage(spec, report)
            config = creation(spec, content, self._options, with_storage_limit=with_storage_limit)
            try:
                return await self._request_creation(spec, config)
            except NoStorageLimits:
                self._storage_limits = False
            except Missing as error:
                if is_of_network(error):
                    raise self._networks.missing() from error
                if again:
                    raise Transient("image_pull_failed", "The image does not stay on the engine.") from error
                content, again = await self._contents.have(spec, report), True  # it was deleted since we looked

    async def _request_creation(self, spec: EnvironmentSpec, config: dict[str, Any]) -> str:
        try:
            return await self._creations.run(spec.key, self._make(spec, config))
        except Unavailable:
            # The reply may have been lost after the work was done: only looking tells.
            if await self._engine.inspect(spec.name) is None:
                raise
            raise Conflicting(spec.name) from None

    async def _make(self, spec: EnvironmentSpec, config: dict[str, Any]) -> str:
        return await self._engine.create(spec.name, await self._networks.join(spec, config))

    async def _examine(self) -> None:
        """An engine that would run programs unconfined gets none: its work waits until that is set right."""
        if not self._examined:
            if not confines_system_calls(await self._engine.info()):
                raise Unavailable(
                    f"{self._options.dialect.subject} filters no system calls (seccomp): nothing is started there."
                )
            self._examined = True

    async def _refuse_the_idle(self, spec: EnvironmentSpec) -> None:
        """Raise `Permanent` for what the engine would take and ignore: devices, and limits that are insisted on."""
        if (spec.gpus or spec.devices) and not self._options.dialect.gives_devices:
            raise Permanent(
                "device_not_available", f"Moorage has no GPU or device from {self._options.dialect.engine}."
            )
        limited = spec.limits.cpu_millis is not None or spec.limits.memory_bytes is not None
        if spec.must_enforce and limited and lets_limits_pass(await self._engine.info()):
            raise Permanent(
                "limit_not_enforceable", f"{self._options.dialect.subject} cannot limit CPU and memory here."
            )

    async def _limits_storage(self, spec: EnvironmentSpec, report: Report) -> bool:
        if spec.limits.storage_bytes is None:
            return False
        if await self._takes_storage_limits():
            return True
        if spec.must_enforce:
            raise Permanent("limit_not_enforceable", f"{self._options.dialect.subject} cannot limit storage.")
        log.warning("storage_limit_not_enforced", reservation=spec.reservation_id, environment=spec.name)
        report(Progress("unlimited", f"{self._options.dialect.subject} cannot limit storage; the limit is left out."))
        return False

    async def _takes_storage_limits(self) -> bool:
        if self._storage_limits is None:
            self._storage_limits = supports_storage_limit(await self._engine.info())
        return self._storage_limits

    async def _started(
        self, spec: EnvironmentSpec, container_id: str, *, was: str | None, report: Report
    ) -> Environment:
        """The environment of a container once it is ready. `was` is its state before, None for one we just created:
        that one is taken away again when it does not start."""
        try:
            notes = await self._notes(spec, container_id, new=was in (None, "created"))
            started = await self._run(spec, container_id, was)
            look = partial(self._look, spec, container_id, started=started)
            environment = await until_ready(spec, look, partial(self._engine.last_output, container_id), report)
        except Exception:
            if was is None:
                with contextlib.suppress(ProvisionerError):  # what is left behind, `remove` finds
                    await self._delete(container_id)
                    await self._networks.leave(spec.key)
            raise
        return replace(environment, notes=notes)

    async def _notes(self, spec: EnvironmentSpec, container_id: str, *, new: bool) -> tuple[str, ...]:
        """What the user has to know of their container. One that never ran gets their key first."""
        notes = await self._volumes.ensure(spec)
        if spec.limits.storage_bytes is not None and not await self._takes_storage_limits():
            notes += (f"The storage limit of {format_bytes(spec.limits.storage_bytes)} is not enforced here.",)
        if spec.login is not None and new and (why := await install_key(self._engine, container_id, spec.login)):
            notes += (why,)
        return notes

    async def _run(self, spec: EnvironmentSpec, container_id: str, was: str | None) -> bool:
        """Have it running, as far as the engine can tell; True when it had to be started."""
        if was == "running" or spec.security.user == NON_ROOT:
            shown = await self._engine.inspect(container_id)
            if shown is not None and shown.status is Status.RUNNING:
                return False
            if shown is not None:
                refuse_root(spec, shown.user)
        await self._start(spec, container_id, paused=was == "paused")
        if spec.ready.port is None:  # otherwise its answer shows that it runs, and does so sooner
            await asyncio.sleep(self._options.settle)
        return True

    async def _look(self, spec: EnvironmentSpec, container_id: str, *, started: bool) -> Look:
        shown = await self._engine.inspect(container_id)
        if shown is None:
            raise Transient("runtime_error", "The container vanished while it was being started.")
        if shown.status is not Status.RUNNING:
            if not started:  # it ran when we came: somebody removes it, or it may be started once more
                raise Transient("runtime_busy", "The program ended while somebody else was at work on it.")
            # By somebody who removes it, or by an engine that restarted meanwhile; the kernel kills for want of memory.
            if shown.status is Status.DYING or (shown.exit_code in _MADE_TO_END and not shown.out_of_memory):
                raise Transient("runtime_busy", "The program was stopped while it was being started.")
            ending = said(spec, await self._engine.last_output(container_id))
            raise Permanent("exited_at_start", f"The program ended at once (exit code {shown.exit_code}).{ending}")
        return Look(shown.environment(self._options), shown.health)

    async def _start(self, spec: EnvironmentSpec, container_id: str, *, paused: bool) -> None:
        try:
            await (self._engine.unpause(container_id) if paused else self._engine.start(container_id))
        except Unavailable:
            shown = await self._engine.inspect(container_id)
            if shown is None or shown.status is not Status.RUNNING:
                raise
        except Missing as error:
            if is_of_network(error):
                await self._networks.rejoin(spec, container_id)
                raise self._networks.missing() from error
            raise Transient("runtime_error", "The container vanished while it was being started.") from error
        except Conflicting as error:
            raise Transient("runtime_busy", "Something else is at work on this environment.") from error

    async def _delete(self, container_id: str) -> None:
        """Return when the container is gone."""
        deadline = asyncio.get_running_loop().time() + _GONE_WITHIN
        while True:
            try:
                return await self._engine.delete(container_id)
            except Missing:
                return None
            except Conflicting as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise Transient("runtime_busy", "The container is still being removed.") from error
            await asyncio.sleep(_LOOK_AGAIN)
