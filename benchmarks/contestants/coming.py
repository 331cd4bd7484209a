"""Environments that come and go: all created, then all removed, by some workers at a time."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

from benchmarks.contestants.harness import Task, say
from benchmarks.events import starts, wanted
from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.templates import Catalog
from consumer.handling.ports import Progress, Provisioner


class Contestant(Protocol):
    async def create(self, spec: EnvironmentSpec) -> None: ...

    async def remove(self, spec: EnvironmentSpec) -> None: ...

    async def aclose(self) -> None: ...


class Moorage:
    """A runtime of Moorage's, whichever it is."""

    def __init__(self, provisioner: Provisioner) -> None:
        self._provisioner = provisioner

    async def create(self, spec: EnvironmentSpec) -> None:
        environment = await self._provisioner.ensure(spec, _ignore)
        assert environment.access is not None
        assert environment.access.ports

    async def remove(self, spec: EnvironmentSpec) -> None:
        assert await self._provisioner.remove(spec.key)

    async def aclose(self) -> None:
        await self._provisioner.close()


async def come_and_go(task: Task, instance: str, contestant: Contestant) -> None:
    """Each is created by one of `concurrency` workers, and when all run, each is removed by one.

    What that took, in seconds, goes to the log: both phases, and each by itself.
    """
    catalog = Catalog.from_yaml(task.settings["templates"], instance=instance, source="benchmark")
    specs = [catalog.resolve(state) for state in wanted(starts(range(task.records)))]
    async with aclosing(contestant):
        created = await _each(specs, contestant.create, task.concurrency)
        removed = await _each(specs, contestant.remove, task.concurrency)
    say("HANDLED")
    Path(task.log).write_text(json.dumps({"created": created, "removed": removed}))  # noqa: ASYNC240 - all is done


async def _each(
    specs: Sequence[EnvironmentSpec], work: Callable[[EnvironmentSpec], Awaitable[None]], workers: int
) -> dict[str, Any]:
    left, single = iter(specs), []

    async def worker() -> None:
        for spec in left:
            began = time.perf_counter()
            await work(spec)
            single.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(workers):
            tasks.create_task(worker())
    return {"seconds": time.perf_counter() - began, "single": single}


def _ignore(_: Progress) -> None:
    """Nobody reads it."""
