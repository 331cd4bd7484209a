"""A runtime made of nothing, for tests and simulations of whatever uses a provisioner.

It behaves as a real one does where that hurts: looking and creating are two steps with time between them, replies
get lost after the work was done, calls fail on cue. The engine outlives its provisioners, as Docker outlives
Moorage; a new provisioner on the same engine is a restart.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import EXPIRES_AT, INSTANCE, KEY
from consumer.catalog.needs import Needs
from consumer.handling.errors import ProvisionerError, Unavailable
from consumer.handling.ports import Ending, Environment, Finding, Level, Report, Status
from consumer.handling.usage import Usage
from consumer.provisioners.access import build_access, hints_of
from consumer.provisioners.labels import environment_of, labels_of, refuse_foreign, refuse_other_spec
from schemas.outbound import AccessPort

Operation = Literal["ensure", "prepare", "find", "extend", "remove", "list", "usage", "ping"]

_NOTHING_USED = Usage(datetime.fromtimestamp(0, UTC), cpu_seconds=0.0, memory_bytes=0)


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it came in. `number` counts the calls of its operation from 1."""

    operation: Operation
    number: int
    key: str | None = None
    spec: EnvironmentSpec | None = None


Latency = Callable[[Call], Awaitable[None]]


@dataclass(slots=True)
class _Made:
    spec: EnvironmentSpec
    native_id: str
    labels: dict[str, str]
    ports: tuple[AccessPort, ...]
    digest: str | None = None
    status: Status = Status.RUNNING
    ending: Ending | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryEngine:
    """The pretended runtime: what exists, what was asked, and what shall go wrong.

    `latency` is seconds, or an awaitable a call goes through on its way there, between looking and acting, and on
    its way back. `violations` names every moment at which one reservation had more than one live environment.
    `digests` says what images mean just now.
    """

    def __init__(self, latency: float | Latency = 0.0) -> None:
        self.latency = latency
        self.reachable = True
        self.digests: dict[str, str] = {}
        self.calls: list[Call] = []
        self.violations: list[str] = []
        self.usage: dict[str, Usage] = {}
        """What the environment of each key is said to use; nothing where it does not say."""

        self.max_live_per_key: dict[str, int] = {}
        self._watchers: list[tuple[str, Callable[[str], None]]] = []
        self._made: dict[str, _Made] = {}
        self._failures: dict[tuple[Operation, int], ProvisionerError] = {}
        self._lost_replies: dict[tuple[Operation, int], ProvisionerError] = {}
        self._counts: Counter[Operation] = Counter()
        self._host_ports = itertools.cycle(range(20000, 60000))
        self._ids = itertools.count(1)

    def fail(self, operation: Operation, error: ProvisionerError, *, nth: int = 1) -> None:
        """Raise `error` on the `nth` call of `operation` from now, before it does anything."""
        self._failures[operation, self._counts[operation] + nth] = error

    def lose_reply(self, operation: Operation, error: ProvisionerError, *, nth: int = 1) -> None:
        """Raise `error` on the `nth` call of `operation` from now, after it was done."""
        self._lost_replies[operation, self._counts[operation] + nth] = error

    def stop(self, key: str, ending: Ending | None = None) -> None:
        """The environment of `key` dies by itself."""
        for made in self._of(key):
            made.status, made.ending = Status.STOPPED, ending
            self._tell_watchers(made)

    def occupy(self, name: str, spec: EnvironmentSpec) -> None:
        """Somebody else makes something called `name`."""
        self._made[name] = _Made(spec, "foreign", {}, ())

    def vacate(self, name: str) -> bool:
        """They take it away again, or one of ours; False when it is gone already."""
        made = self._made.pop(name, None)
        if made is not None:
            self._tell_watchers(made)
        return made is not None

    def names(self) -> set[str]:
        """Everything that exists, whoever made it."""
        return set(self._made)

    def spec_of(self, key: str) -> EnvironmentSpec:
        """What the environment of `key` was made from."""
        return self._of(key)[0].spec

    async def _arrive(self, operation: Operation, key: str | None = None, spec: EnvironmentSpec | None = None) -> Call:
        self._counts[operation] += 1
        call = Call(operation, self._counts[operation], key, spec)
        self.calls.append(call)
        await self._pass(call)
        if not self.reachable:
            raise Unavailable("The in-memory engine is switched off.")
        if error := self._failures.get((operation, call.number)):
            raise error
        return call

    async def _pass(self, call: Call) -> None:
        if callable(self.latency):
            await self.latency(call)
        else:
            await asyncio.sleep(self.latency)

    async def _answer(self, call: Call) -> None:
        if error := self._lost_replies.get((call.operation, call.number)):
            raise error
        await self._pass(call)

    def _of(self, key: str) -> list[_Made]:
        return [made for made in self._made.values() if made.labels.get(KEY) == key]

    def _create(self, spec: EnvironmentSpec, instance: str) -> None:
        ports = tuple(
            AccessPort(port=port.container, host_port=port.host or next(self._host_ports), protocol=port.protocol)
            for port in spec.ports
        )
        digest = spec.image_digest or self.digests.get(spec.image)
        self._made[spec.name] = _Made(spec, f"m{next(self._ids)}", labels_of(spec, instance), ports, digest)
        self._count_live(spec.key)

    def _start(self, made: _Made) -> None:
        made.status, made.ending = Status.RUNNING, None
        self._count_live(made.labels[KEY])

    def _count_live(self, key: str) -> None:
        live = [made for made in self._of(key) if made.status is not Status.STOPPED]
        self.max_live_per_key[key] = max(self.max_live_per_key.get(key, 0), len(live))
        if len(live) > 1:
            names = ", ".join(sorted(made.spec.name for made in live))
            self.violations.append(f"{len(live)} live environments of {key}: {names}")

    def _delete(self, made: _Made) -> None:
        self._made.pop(made.spec.name, None)
        made.gone.set()
        self._tell_watchers(made)

    def _tell_watchers(self, made: _Made) -> None:
        for instance, ended in self._watchers if self.reachable else ():
            if made.labels.get(INSTANCE) == instance:
                ended(made.spec.reservation_id)


class MemoryProvisioner:
    """The `Provisioner` of a `MemoryEngine`."""

    def __init__(
        self,
        engine: MemoryEngine | None = None,
        *,
        instance: str = "default",
        runtime: str = "memory",
        host: str = "127.0.0.1",
    ) -> None:
        self.engine = engine if engine is not None else MemoryEngine()
        self._instance = instance
        self._runtime = runtime
        self._host = host

    @property
    def runtime(self) -> str:
        return self._runtime

    async def ensure(self, spec: EnvironmentSpec, report: Report) -> Environment:
        engine = self.engine
        call = await engine._arrive("ensure", spec.key, spec)
        while True:
            existing = engine._of(spec.key)
            if dying := [made for made in existing if made.status is Status.DYING]:
                await dying[0].gone.wait()
                continue
            if not existing:
                await engine._pass(call)
                if (taken := engine._made.get(spec.name)) is None:
                    engine._create(spec, self._instance)
                else:
                    refuse_foreign(taken.labels, self._instance, spec)
                continue
            made = existing[0]
            refuse_other_spec(made.labels, spec)
            if made.status is Status.STOPPED:
                engine._start(made)
            await engine._answer(call)
            return self._environment(made)

    async def prepare(self, spec: EnvironmentSpec, report: Report) -> None:
        await self.engine._answer(await self.engine._arrive("prepare", spec.key, spec))

    async def find(self, key: str) -> Environment | None:
        call = await self.engine._arrive("find", key)
        found = [self._environment(made) for made in self.engine._of(key)]
        await self.engine._answer(call)
        return found[0] if found else None

    async def extend(self, key: str, until: datetime) -> bool:
        call = await self.engine._arrive("extend", key)
        found = [made for made in self.engine._of(key) if made.status is not Status.DYING]
        for made in found:
            made.labels[EXPIRES_AT] = until.isoformat()
        await self.engine._answer(call)
        return bool(found)

    async def remove(self, key: str, *, keep: bool = False) -> bool:
        engine = self.engine
        call = await engine._arrive("remove", key)
        doomed = engine._of(key)
        for made in doomed:
            made.status = Status.DYING
        try:
            await engine._pass(call)
        finally:
            # A runtime that was asked to delete goes on when the caller has lost interest.
            for made in doomed:
                engine._delete(made)
        await engine._answer(call)
        return bool(doomed)

    async def list(self) -> list[Environment]:
        call = await self.engine._arrive("list")
        made = [made for made in self.engine._made.values() if made.labels.get(INSTANCE) == self._instance]
        found = [self._environment(each) for each in made]
        await self.engine._answer(call)
        return found

    async def usage(self, key: str) -> Usage | None:
        call = await self.engine._arrive("usage", key)
        running = any(made.status is Status.RUNNING for made in self.engine._of(key))
        await self.engine._answer(call)
        return self.engine.usage.get(key, _NOTHING_USED) if running else None

    async def watch(self, ended: Callable[[str], None]) -> None:
        watcher = (self._instance, ended)
        self.engine._watchers.append(watcher)
        try:
            await asyncio.Event().wait()
        finally:
            self.engine._watchers.remove(watcher)

    async def ping(self) -> None:
        await self.engine._answer(await self.engine._arrive("ping"))

    async def diagnose(self, needs: Needs) -> Sequence[Finding]:
        if self.engine.reachable:
            return [Finding(Level.OK, "engine", "It is there.")]
        return [Finding(Level.ERROR, "engine", "The in-memory engine is switched off.", "Switch it on.")]

    async def close(self) -> None:
        return None

    def _environment(self, made: _Made) -> Environment:
        shown = environment_of(
            made.labels,
            runtime=self._runtime,
            name=made.spec.name,
            native_id=made.native_id,
            status=made.status,
            access=build_access(self._host, made.ports, hints_of(made.labels)),
            image=made.spec.image,
            image_digest=made.digest,
        )
        return replace(shown, ending=made.ending)
