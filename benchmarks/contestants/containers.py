"""Environments as containers, without Kafka: by Moorage's Docker runtime, or by a bare client that asks for the same.

Each is created by one of `concurrency` workers, and when all run, each is removed by one. What that took, in seconds,
goes to the log: both phases, and the creation of each.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from aiodocker import Docker

from benchmarks.contestants.harness import Task, run, say
from benchmarks.events import starts, wanted
from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.templates import Catalog
from consumer.handling.ports import Progress
from consumer.ops.logging import configure_logging
from consumer.provisioners.docker import DockerOptions, DockerProvisioner
from consumer.provisioners.docker.container import creation
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.docker.images import Content
from consumer.provisioners.docker.networks import Networks

_PATIENCE = 5
"""Seconds that a program may take to end by itself, as by Moorage's default."""


class Moorage:
    def __init__(self, options: DockerOptions) -> None:
        self._provisioner = DockerProvisioner(options)

    async def create(self, spec: EnvironmentSpec) -> None:
        environment = await self._provisioner.ensure(spec, _ignore)
        assert environment.access is not None
        assert environment.access.ports

    async def remove(self, spec: EnvironmentSpec) -> None:
        assert await self._provisioner.remove(spec.key)

    async def aclose(self) -> None:
        await self._provisioner.close()


class Bare:
    """Creates, starts, reads the ports back, stops and deletes; looks at nothing else, and hopes for the best."""

    def __init__(self, options: DockerOptions) -> None:
        self._docker = Docker(url=options.url)
        self._options = options
        self._engine = Engine(options)
        self._networks = Networks(self._engine, options)

    async def create(self, spec: EnvironmentSpec) -> None:
        config = creation(spec, Content(spec.image), self._options, with_storage_limit=False)
        joined = await self._networks.join(spec, config)  # once, what all join is made by it
        container = await self._docker.containers.create(joined, name=spec.name)
        await container.start()
        shown = await container.show()
        assert shown["State"]["Running"]
        assert all(shown["NetworkSettings"]["Ports"].values())

    async def remove(self, spec: EnvironmentSpec) -> None:
        container = self._docker.containers.container(spec.name)
        await container.stop(t=_PATIENCE)
        await container.delete(force=True, v=True)

    async def aclose(self) -> None:
        await self._networks.close()
        await self._engine.close()
        await self._docker.close()


_KINDS: dict[str, Callable[[DockerOptions], Moorage | Bare]] = {"moorage": Moorage, "bare": Bare}


async def live(task: Task, stop: asyncio.Event) -> None:
    settings = task.settings
    options = DockerOptions(settings["instance"], settings["url"])
    catalog = Catalog.from_yaml(settings["templates"], instance=options.instance, source="benchmark")
    specs = [catalog.resolve(state) for state in wanted(starts(range(task.records)))]
    async with aclosing(_KINDS[settings["kind"]](options)) as contestant:
        created = await _each(specs, contestant.create, task.concurrency)
        removed = await _each(specs, contestant.remove, task.concurrency)
    say("HANDLED")
    Path(task.log).write_text(json.dumps({"created": created, "removed": removed}))  # noqa: ASYNC240 - all is done
    await stop.wait()


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


if __name__ == "__main__":
    configure_logging("warning")  # also because standard output is for talking to the runner
    run(live)
