"""Environments as containers, without Kafka: by Moorage's Docker runtime, or by a bare client asking for the same."""

import asyncio
from collections.abc import Callable

from aiodocker import Docker

from benchmarks.contestants.coming import Contestant, Moorage, come_and_go
from benchmarks.contestants.harness import Task, run
from consumer.catalog.environment import EnvironmentSpec
from consumer.ops.logging import configure_logging
from consumer.provisioners.docker import DockerOptions, DockerProvisioner
from consumer.provisioners.docker.container import creation
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.docker.images import Content
from consumer.provisioners.docker.networks import Networks

_PATIENCE = 5
"""Seconds that a program may take to end by itself, as by Moorage's default."""


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


_KINDS: dict[str, Callable[[DockerOptions], Contestant]] = {
    "moorage": lambda options: Moorage(DockerProvisioner(options)),
    "bare": Bare,
}


async def live(task: Task, stop: asyncio.Event) -> None:
    settings = task.settings
    options = DockerOptions(settings["instance"], settings["url"])
    await come_and_go(task, options.instance, _KINDS[settings["kind"]](options))
    await stop.wait()


if __name__ == "__main__":
    configure_logging("warning")  # also because standard output is for talking to the runner
    run(live)
