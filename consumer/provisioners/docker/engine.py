"""The requests we make of a Docker Engine, each bounded in time and with its failures decided."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

from aiodocker import Docker
from aiodocker.exceptions import DockerError

from consumer.provisioners.docker.container import Container
from consumer.provisioners.docker.errors import (
    Conflicting,
    Missing,
    NoStorageLimits,
    engine_errors_decided,
    pull_error,
)
from consumer.provisioners.docker.options import DockerOptions

_LOG_LINES = 20


class Engine:
    """Raises `ProvisionerError`s, and `Conflicting` and `Missing` where a method says so."""

    def __init__(self, options: DockerOptions) -> None:
        self._options = options
        self._docker: Docker | None = None
        # Fewer than the client has connections: waiting for a free one would count as the engine being slow.
        self._slots = asyncio.Semaphore(options.concurrent_requests)

    async def version(self) -> None:
        async with self._request(self._options.request_timeout) as docker:
            await docker.version()

    async def info(self) -> Mapping[str, Any]:
        async with self._request(self._options.request_timeout) as docker:
            info: Mapping[str, Any] = await docker.system.info()
            return info

    async def containers(self, *labels: str) -> list[Container]:
        """All containers, stopped ones too, with all these labels (`name=value`)."""
        async with self._request(self._options.request_timeout) as docker:
            shown = await docker.containers.list(all=True, filters={"label": [*labels]})
            return [Container.from_summary(each) for each in shown]

    async def inspect(self, name_or_id: str) -> Container | None:
        try:
            async with self._request(self._options.request_timeout, Missing) as docker:
                return Container.from_inspection(await docker.containers.container(name_or_id).show())
        except Missing:
            return None

    async def create(self, name: str, config: dict[str, Any]) -> str:
        """The id of a new container.

        Raises `Conflicting` if the name is taken, `Missing` without the image, and `NoStorageLimits`.
        """
        async with self._request(self._options.create_timeout, Missing, Conflicting, NoStorageLimits) as docker:
            return (await docker.containers.create(config, name=name)).id

    async def start(self, container_id: str) -> None:
        """Start it; that it runs already is fine. Raises `Missing`, and `Conflicting` when it cannot be now."""
        async with self._request(self._options.create_timeout, Missing, Conflicting) as docker:
            await docker.containers.container(container_id).start()

    async def unpause(self, container_id: str) -> None:
        """Raises `Missing`, and `Conflicting` when it is not paused."""
        async with self._request(self._options.request_timeout, Missing, Conflicting) as docker:
            await docker.containers.container(container_id).unpause()

    async def stop(self, container_id: str) -> None:
        """Ask its program to end, and make it. Raises `Missing`, and `Conflicting` when it is on its way out."""
        patience = self._options.stop_timeout
        async with self._request(patience + self._options.request_timeout, Missing, Conflicting) as docker:
            await docker.containers.container(container_id).stop(t=round(patience))

    async def delete(self, container_id: str) -> None:
        """Delete it with its anonymous volumes. Raises `Missing`, and `Conflicting` when it is on its way out."""
        async with self._request(self._options.request_timeout, Missing, Conflicting) as docker:
            await docker.containers.container(container_id).delete(force=True, v=True)

    async def last_output(self, container_id: str) -> str:
        """The last lines it wrote; empty when they cannot be had."""
        try:
            async with self._request(self._options.request_timeout, Missing, Conflicting) as docker:
                container = docker.containers.container(container_id)
                return "".join(await container.log(stdout=True, stderr=True, tail=_LOG_LINES))
        except (Missing, Conflicting):
            return ""

    async def pull(self, image: str, take: Callable[[Mapping[str, Any]], None]) -> None:
        """Pull the image; `take` gets the engine's progress. Unbounded in time: the caller limits it."""
        with engine_errors_decided():
            try:
                stream = cast("AsyncGenerator[Mapping[str, Any]]", self._client().images.pull(image, stream=True))
                async with aclosing(stream) as events:
                    async for event in events:
                        take(event)
            except DockerError as error:
                raise pull_error(image, error) from error

    async def close(self) -> None:
        if self._docker is not None:
            await self._docker.close()
            self._docker = None
            # aiohttp's transports close at the loop's next turn; a loop that ends right away would leave them open.
            await asyncio.sleep(0)

    @asynccontextmanager
    async def _request(self, timeout: float, *expected: type[Exception]) -> AsyncIterator[Docker]:
        """The client, for one request. Of the answers that are no decision yet, only the `expected` are let through."""
        async with self._slots:
            with engine_errors_decided(*expected):
                async with asyncio.timeout(timeout):
                    yield self._client()

    def _client(self) -> Docker:
        # Made when first used: the client needs a running loop, and may find no engine at all.
        if self._docker is None:
            self._docker = Docker(url=self._options.url)
        return self._docker
