"""The process runtime as a `Provisioner`."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from consumer.catalog.environment import EnvironmentSpec
from consumer.handling.ports import Environment, Progress, Report
from consumer.provisioners.process.lifecycle import Lifecycle
from consumer.provisioners.process.options import ProcessOptions

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
            return await self._in_thread(lambda: self._lifecycle.ensure(spec, abandoned.is_set))
        finally:
            abandoned.set()

    async def find(self, key: str) -> Environment | None:
        return await self._in_thread(lambda: self._lifecycle.find(key))

    async def remove(self, key: str) -> bool:
        return await self._in_thread(lambda: self._lifecycle.remove(key))

    async def list(self) -> list[Environment]:
        return await self._in_thread(self._lifecycle.list)

    async def ping(self) -> None:
        await self._in_thread(self._lifecycle.ping)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
