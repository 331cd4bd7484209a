"""The Docker runtime as a `Provisioner`."""

import asyncio
import builtins
import contextlib
from typing import Any

import structlog

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import INSTANCE, KEY, MANAGED_BY
from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Environment, Progress, Report, Status
from consumer.provisioners.docker.container import RUNTIME, Container, creation, supports_storage_limit
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.docker.errors import Conflicting, Missing, NoStorageLimits, missing_network
from consumer.provisioners.docker.inflight import InFlight
from consumer.provisioners.docker.options import DockerOptions
from consumer.provisioners.docker.pulls import ImagePulls
from consumer.provisioners.labels import refuse_foreign, refuse_other_spec
from consumer.provisioners.text import last_words

_LOOK_AGAIN = 0.1
_GONE_WITHIN = 10.0

log = structlog.get_logger("moorage.docker")


class DockerProvisioner:
    """Runs each environment as a container of a Docker Engine.

    What exists is asked of the engine every time; nothing is remembered that a restart would lose.
    """

    def __init__(self, options: DockerOptions) -> None:
        self._options = options
        self._engine = Engine(options)
        self._pulls = ImagePulls(self._engine, options.pull_timeout)
        self._creations = InFlight()
        self._storage_limits: bool | None = None

    @property
    def runtime(self) -> str:
        return RUNTIME

    async def ensure(self, spec: EnvironmentSpec, report: Report) -> Environment:
        deadline = asyncio.get_running_loop().time() + self._options.create_timeout
        while True:
            if container := await self._adoptable(spec):
                return await self._started(container.id, was=container.state)
            try:
                new = await self._create(spec, report)
            except Conflicting:
                await self._refuse_foreign_holder(spec)
            else:
                report(Progress("starting", spec.name))
                return await self._started(new, was=None)
            # Ours, but made this moment by somebody else, or on its way out: it shows under its label soon.
            if asyncio.get_running_loop().time() > deadline:
                raise Transient("runtime_busy", "Something else is still at work on this environment.")
            await asyncio.sleep(_LOOK_AGAIN)

    async def find(self, key: str) -> Environment | None:
        found = [container.environment(self._options) for container in await self._of(key)]
        return min(found, key=lambda each: each.status is Status.DYING, default=None)

    async def remove(self, key: str) -> bool:
        await self._creations.settled(key)
        found = await self._of(key)
        for container in found:
            if container.status in (Status.RUNNING, Status.STARTING):
                with contextlib.suppress(Missing, Conflicting, Transient):  # then it is ended by force
                    await self._engine.stop(container.id)
            await self._delete(container.id)
        return bool(found)

    async def list(self) -> list[Environment]:
        found = await self._engine.containers(f"{MANAGED_BY}=moorage", f"{INSTANCE}={self._options.instance}")
        return [container.environment(self._options) for container in found if KEY in container.labels]

    async def ping(self) -> None:
        try:
            await self._engine.version()
        except (Transient, Permanent) as error:
            raise Unavailable("What answers is not a working Docker Engine.") from error

    async def close(self) -> None:
        await self._pulls.close()
        await self._creations.close()
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

    async def _create(self, spec: EnvironmentSpec, report: Report) -> str:
        """The id of a new container, its image pulled if need be. Raises `Conflicting` when its name is taken."""
        report(Progress("creating", spec.name))
        pulled = False
        while True:
            config = creation(spec, self._options, with_storage_limit=await self._limits_storage(spec, report))
            try:
                return await self._request_creation(spec, config)
            except NoStorageLimits:
                self._storage_limits = False
            except Missing as error:
                if (refusal := missing_network(error)) is not None:
                    raise refusal from error
                if pulled:
                    raise Transient("image_pull_failed", "The image was pulled but is not there.") from error
                await self._pulls.pull(spec.image, report)
                pulled = True

    async def _request_creation(self, spec: EnvironmentSpec, config: dict[str, Any]) -> str:
        try:
            return await self._creations.run(spec.key, self._engine.create(spec.name, config))
        except Unavailable:
            # The reply may have been lost after the work was done: only looking tells.
            if await self._engine.inspect(spec.name) is None:
                raise
            raise Conflicting(spec.name) from None

    async def _limits_storage(self, spec: EnvironmentSpec, report: Report) -> bool:
        if spec.limits.storage_bytes is None:
            return False
        if self._storage_limits is None:
            self._storage_limits = supports_storage_limit(await self._engine.info())
        if not self._storage_limits:
            log.warning("storage_limit_not_enforced", reservation=spec.reservation_id, environment=spec.name)
            report(Progress("unlimited", "This Docker Engine cannot limit storage; the limit is left out."))
        return self._storage_limits

    async def _started(self, container_id: str, *, was: str | None) -> Environment:
        """The environment of a container once it runs. `was` is its state before, None for one we just created:
        that one is taken away again when it does not start."""
        try:
            shown = await self._run(container_id, was)
        except (Transient, Permanent):
            if was is None:
                with contextlib.suppress(ProvisionerError):  # what is left behind, `remove` finds
                    await self._delete(container_id)
            raise
        return shown.environment(self._options)

    async def _run(self, container_id: str, was: str | None) -> Container:
        if was == "running":
            shown = await self._engine.inspect(container_id)
            if shown is not None and shown.status is Status.RUNNING:
                return shown
        await self._start(container_id, paused=was == "paused")
        await asyncio.sleep(self._options.settle)
        shown = await self._engine.inspect(container_id)
        if shown is None:
            raise Transient("runtime_error", "The container vanished while it was being started.")
        if shown.status is not Status.RUNNING:
            words = last_words(await self._engine.last_output(container_id), 150)
            ending = f" It said: {words}" if words else ""
            raise Permanent("exited_at_start", f"The program ended at once (exit code {shown.exit_code}).{ending}")
        return shown

    async def _start(self, container_id: str, *, paused: bool) -> None:
        try:
            await (self._engine.unpause(container_id) if paused else self._engine.start(container_id))
        except Unavailable:
            shown = await self._engine.inspect(container_id)
            if shown is None or shown.status is not Status.RUNNING:
                raise
        except Missing as error:
            if (refusal := missing_network(error)) is not None:
                raise refusal from error
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
