"""The process runtime as a `Provisioner`."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import TypeVar

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.needs import Needs
from consumer.handling.errors import Permanent, ProvisionerError, Transient
from consumer.handling.ports import Environment, Finding, Level, Progress, Report, Status
from consumer.handling.usage import Usage
from consumer.provisioners.process.lifecycle import Lifecycle
from consumer.provisioners.process.options import ProcessOptions
from consumer.provisioners.readiness import Look, said, until_ready
from consumer.provisioners.text import without_paths

T = TypeVar("T")


class ProcessProvisioner:
    """Runs each environment as a supervised process of this machine. NOT ISOLATED: see docs/reference/runtimes.md.

    A call that is cancelled goes on in its thread to where it leaves things in order; a `remove` that follows waits
    for that. `close` waits for such threads.
    """

    def __init__(self, options: ProcessOptions) -> None:
        self._lifecycle = Lifecycle(options)
        # Not the loop's own pool: threads that wait for a lock or for a process to end would starve its users.
        self._threads = ThreadPoolExecutor(options.workers, thread_name_prefix="moorage-process")

    @property
    def runtime(self) -> str:
        return "process"

    async def ensure(self, spec: EnvironmentSpec, report: Report) -> Environment:
        report(Progress("starting", "a process of its own"))
        abandoned = threading.Event()
        try:
            made = await self._in_thread(lambda: self._lifecycle.ensure(spec, abandoned.is_set))
        finally:
            abandoned.set()
        if spec.ready.port is None:
            return made
        try:
            return await until_ready(spec, partial(self._look, spec), partial(self._output, spec.key), report)
        except Permanent:
            await self.remove(spec.key)
            raise

    async def _look(self, spec: EnvironmentSpec) -> Look:
        found = await self.find(spec.key)
        if found is None:
            raise Transient("runtime_error", "The environment vanished while it was being started.")
        if found.status is not Status.RUNNING:
            ending = said(spec, await self._output(spec.key))
            raise Permanent("exited_at_start", f"The program ended before it was ready.{ending}")
        return Look(found)

    async def _output(self, key: str) -> str:
        return without_paths(await self._in_thread(lambda: self._lifecycle.last_output(key)))

    async def prepare(self, spec: EnvironmentSpec, report: Report) -> None:
        return None

    async def find(self, key: str) -> Environment | None:
        return await self._in_thread(lambda: self._lifecycle.find(key))

    async def extend(self, key: str, until: datetime) -> bool:
        return await self._in_thread(lambda: self._lifecycle.extend(key, until))

    async def remove(self, key: str, *, keep: bool = False) -> bool:
        return await self._in_thread(lambda: self._lifecycle.remove(key))

    async def list(self) -> list[Environment]:
        return await self._in_thread(self._lifecycle.list)

    async def usage(self, key: str) -> Usage | None:
        return await self._in_thread(lambda: self._lifecycle.usage(key))

    async def watch(self, ended: Callable[[str], None]) -> None:
        await asyncio.Event().wait()  # supervisors start programs again by themselves, and tell nobody

    async def ping(self) -> None:
        await self._in_thread(self._lifecycle.ping)

    async def diagnose(self, needs: Needs) -> Sequence[Finding]:
        isolation = Finding(
            Level.WARNING,
            "isolation",
            "Processes are not isolated: they see whatever Moorage's own user sees.",
            "Use it to try things out, and a container runtime for users.",
        )
        try:
            await self.ping()
        except ProvisionerError as error:
            remedy = "Let Moorage's user own MOORAGE_PROCESS_DIR, on a local file system with room."
            return [isolation, Finding(Level.ERROR, "directory", error.message, remedy)]
        return [isolation, Finding(Level.OK, "directory", "The directory for environments can be used.")]

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
