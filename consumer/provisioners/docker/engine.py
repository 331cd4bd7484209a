"""The requests we make of an engine, each bounded in time and with its failures decided."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError
from aiodocker.networks import DockerNetwork
from aiodocker.volumes import DockerVolume

from consumer.handling.errors import Unavailable
from consumer.provisioners.credentials import RegistryCredentials
from consumer.provisioners.docker.archives import only_file
from consumer.provisioners.docker.container import Container
from consumer.provisioners.docker.dialects import Dialect, dialect_of
from consumer.provisioners.docker.errors import (
    Conflicting,
    Missing,
    NoStorageLimits,
    ReadOnly,
    engine_errors_decided,
    pull_error,
)
from consumer.provisioners.docker.images import full_name
from consumer.provisioners.docker.options import DockerOptions
from consumer.provisioners.docker.tls import over_tls, tls_context

_LOG_LINES = 20
_OUTPUT_LAGS = 0.2
"""Podman writes down what a program said a moment after the program has ended."""
_NOT_A_FILE = 0x8F28_0000
"""The bits of a Go `FileMode` that say that something is no regular file."""

_TAR_ROOM = 64 * 1024
"""Bytes that a tar needs around a file."""


class Engine:
    """Raises `ProvisionerError`s, and `Conflicting` and `Missing` where a method says so.

    Making one raises ValueError when the file with the registries' logins is not one.
    """

    def __init__(self, options: DockerOptions) -> None:
        self._options = options
        self._docker: Docker | None = None
        self._tls = tls_context(options.tls) if options.tls is not None else None
        path = options.registry_credentials
        self._credentials = RegistryCredentials(path) if path is not None else None
        self._greeting = asyncio.Lock()
        # Fewer than the client has connections: waiting for a free one would count as the engine being slow.
        self._slots = asyncio.Semaphore(options.concurrent_requests)

    @property
    def dialect(self) -> Dialect:
        return self._options.dialect

    async def ping(self) -> None:
        async with self._request(self._options.request_timeout) as docker:
            await self._greet(docker)

    async def version(self) -> Mapping[str, Any]:
        async with self._request(self._options.request_timeout) as docker:
            version: Mapping[str, Any] = await docker.version()
            return version

    async def image_names(self) -> frozenset[str]:
        """What the images at hand are called, `name:tag` and `name@digest`."""
        async with self._request(self._options.request_timeout) as docker:
            images = await docker.images.list()
            return frozenset(
                name for image in images for kind in ("RepoTags", "RepoDigests") for name in image.get(kind) or ()
            )

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
            if said := await self._output(container_id):
                return said
            await asyncio.sleep(_OUTPUT_LAGS)
            return await self._output(container_id)
        except (Missing, Conflicting):
            return ""

    async def _output(self, container_id: str) -> str:
        async with self._request(self._options.request_timeout, Missing, Conflicting) as docker:
            container = docker.containers.container(container_id)
            return "".join(await container.log(stdout=True, stderr=True, tail=_LOG_LINES))

    async def stats(self, container_id: str) -> Mapping[str, Any] | None:
        """One reading of what it uses, which takes the engine a second or two; None when it is gone."""
        try:
            async with self._request(self._options.request_timeout, Missing, Conflicting) as docker:
                read = await docker.containers.container(container_id).stats(stream=False)
                return read[0] if read else None
        except (Missing, Conflicting):
            return None

    async def image(self, reference: str) -> Mapping[str, Any] | None:
        """What the engine shows of an image that it has."""
        try:
            async with self._request(self._options.request_timeout, Missing) as docker:
                shown: Mapping[str, Any] = await docker.images.inspect(reference)
                return shown
        except Missing:
            return None

    async def read_file(self, container_id: str, path: str, most: int) -> bytes | None:
        """A file of a container, running or not; None if there is none, or it is no file, or longer than `most`."""
        try:
            async with self._request(self._options.request_timeout, Missing) as docker:
                address = f"containers/{container_id}/archive"
                async with docker._query(address, params={"path": path}) as response:
                    # What it is comes first, so that nobody makes us read a file, or a folder, without end.
                    about = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))
                    if about["mode"] & _NOT_A_FILE or about["size"] > most:
                        return None
                    archive = await response.content.read(most + _TAR_ROOM)
                    while chunk := await response.content.read(most + _TAR_ROOM - len(archive)):
                        archive += chunk
                    return await asyncio.to_thread(only_file, archive)
        except Missing:
            return None

    async def extract(self, container_id: str, path: str, archive: bytes) -> None:
        """Unpack a tar in a directory of a container. Raises `Missing` without the directory, and `ReadOnly`."""
        async with self._request(self._options.request_timeout, Missing, ReadOnly) as docker:
            await docker.containers.container(container_id).put_archive(path, archive)

    async def volume(self, name: str) -> Mapping[str, Any] | None:
        try:
            async with self._request(self._options.request_timeout, Missing) as docker:
                return await _volume(docker, name)
        except Missing:
            return None

    async def volumes(self, *labels: str) -> list[str]:
        """The names of all volumes with all these labels (`name=value`)."""
        async with self._request(self._options.request_timeout) as docker:
            shown = await docker.volumes.list(filters={"label": [*labels]})
            # Podman lists what carries any of them.
            return [volume["Name"] for volume in shown["Volumes"] or () if _carries(volume.get("Labels"), labels)]

    async def create_volume(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """A volume, new or not: one that has the name already is left as it is. Raises `NoStorageLimits`."""
        async with self._request(self._options.create_timeout, NoStorageLimits) as docker:
            await docker.volumes.create(dict(config))
            return await _volume(docker, config["Name"])

    async def delete_volume(self, name: str) -> None:
        """Raises `Missing`, and `Conflicting` while a container has it."""
        async with self._request(self._options.request_timeout, Missing, Conflicting) as docker:
            await DockerVolume(docker, name).delete()

    async def networks(self, filters: Mapping[str, list[str]]) -> list[Mapping[str, Any]]:
        """What `GET /networks` shows for these filters."""
        async with self._request(self._options.request_timeout) as docker:
            return [*await docker.networks.list(filters=filters)]

    async def create_network(self, config: dict[str, Any]) -> None:
        """Raises `Conflicting` if its name or its bridge's is taken."""
        async with self._request(self._options.create_timeout, Conflicting) as docker:
            await docker.networks.create(config)

    async def network_members(self, network_id: str) -> Collection[str]:
        """The ids of the containers that are on the network. Raises `Missing`."""
        async with self._request(self._options.request_timeout, Missing) as docker:
            return (await DockerNetwork(docker, network_id).show()).get("Containers") or {}

    async def connect(self, network: str, container_id: str, endpoint: dict[str, Any]) -> None:
        """Raises `Missing` without either."""
        async with self._request(self._options.request_timeout, Missing) as docker:
            await DockerNetwork(docker, network).connect({"Container": container_id, "EndpointConfig": endpoint})

    async def disconnect(self, network: str, container_id: str) -> None:
        """Take the container off the network, or off one of its name that is gone. Raises `Missing`."""
        async with self._request(self._options.request_timeout, Missing) as docker:
            await DockerNetwork(docker, network).disconnect({"Container": container_id, "Force": True})

    async def delete_network(self, network_id: str) -> None:
        """Raises `Missing`, and `Conflicting` while a running container is on it."""
        async with self._request(self._options.request_timeout, Missing, Conflicting) as docker:
            await DockerNetwork(docker, network_id).delete()

    async def pull(self, image: str, take: Callable[[Mapping[str, Any]], None]) -> None:
        """Pull the image; `take` gets the engine's progress. Unbounded in time: the caller limits it."""
        login = await asyncio.to_thread(self._credentials.login_for, image) if self._credentials else None
        # With a login, the client takes none but full names.
        name = image if login is None else full_name(image)
        with engine_errors_decided(dialect=self.dialect):
            try:
                pulling = (await self._client()).images.pull(name, auth=login, stream=True)
                async with aclosing(cast("AsyncGenerator[Mapping[str, Any]]", pulling)) as events:
                    async for event in events:
                        take(event)
            except DockerError as error:
                raise pull_error(image, error, self.dialect, with_login=login is not None) from error

    async def events(self, since: str | None, **filters: str) -> AsyncGenerator[Mapping[str, Any], None]:
        """What happens at the engine from now on, or from `since` (Unix seconds), until it hangs up."""
        asked = {"filters": json.dumps({name: [value] for name, value in filters.items()})}
        if since is not None:
            asked["since"] = since
        with engine_errors_decided(dialect=self.dialect):
            channel: Any = (await self._client()).events
            subscriber = channel.subscribe(create_task=False)
            listening = asyncio.create_task(channel.run(**asked), name="docker-events")
            try:
                while (event := await subscriber.get()) is not None:
                    yield event
                await listening
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

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
            with engine_errors_decided(*expected, dialect=self.dialect):
                async with asyncio.timeout(timeout):
                    yield await self._client()

    async def _client(self) -> Docker:
        """The client, once an engine of our kind has answered it."""
        # Made when first used: the client needs a running loop, and may find no engine at all.
        if self._docker is None:
            url = self._options.url or self.dialect.usual_url()
            if url is not None and self._tls is not None:
                url = over_tls(url)
            self._docker = Docker(url=url, ssl_context=self._tls)
            # An engine that is leaving takes no new connections, but goes on answering on those it has, while it stops
            # all containers: what is asked there would be taken for programs that ended by themselves.
            self._docker.session.headers[aiohttp.hdrs.CONNECTION] = "close"
        docker = self._docker
        async with self._greeting:
            if docker.api_version == "auto":
                await self._greet(docker)
        return docker

    async def _greet(self, docker: Docker) -> None:
        """Learn who answers and which version of the API to speak. The client itself would ask for `/version`, each
        request anew until one is answered, and Podman takes seconds over that: it asks the package manager."""
        async with docker.session.get(f"{docker.docker_host}/_ping") as reply:
            if reply.status != 200:
                raise DockerError(reply.status, await reply.text())
            version, heard = reply.headers["Api-Version"], dialect_of(reply.headers)
        expected = self.dialect
        if heard.runtime != expected.runtime:
            raise Unavailable(
                f"{heard.subject} answers where {expected.engine} is expected; its runtime is {heard.runtime}."
            )
        docker.api_version = f"v{version}"


def _carries(shown: Mapping[str, str] | None, labels: Iterable[str]) -> bool:
    """Whether all of `labels` (`name=value`) are among those shown."""
    return {*labels} <= {f"{name}={value}" for name, value in (shown or {}).items()}


async def _volume(docker: Docker, name: str) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = await DockerVolume(docker, name).show()
    return shown
