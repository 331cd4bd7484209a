"""The Docker runtime under instance names of its own, looked at through the engine's API without our code."""

from dataclasses import replace
from typing import Any

from aiodocker import Docker
from aiodocker.exceptions import DockerError

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import INSTANCE
from consumer.handling.ports import Environment, Provisioner
from consumer.provisioners.docker import DockerOptions, DockerProvisioner
from tests.provisioners.harness import Harness


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


class DockerHarness(Harness):
    command = shell("env > /www/env.txt; exec httpd -f -p 8080 -h /www")

    def __init__(self, url: str, image: str) -> None:
        super().__init__()
        self.url, self.image = url, image
        self.docker = Docker(url=url)

    def options(self, instance: str, **changes: Any) -> DockerOptions:
        usual = DockerOptions(instance, self.url, settle=0.05, stop_timeout=1.0)
        return replace(usual, **changes)

    def new_provisioner(self, instance: str) -> Provisioner:
        return DockerProvisioner(self.options(instance))

    def provisioner_with(self, **changes: Any) -> Provisioner:
        """One with other options than usual."""
        made = DockerProvisioner(self.options(self.instance, **changes))
        self._opened.append(made)
        return made

    def unreachable(self) -> Provisioner:
        return DockerProvisioner(self.options(self.instance, url="unix:///nonexistent/docker.sock"))

    async def inspect(self, environment: Environment) -> dict[str, Any]:
        return await self.docker.containers.container(environment.native_id).show()

    async def stop(self, environment: Environment) -> None:
        container = self.docker.containers.container(environment.native_id)
        await container.kill()
        await container.wait()

    async def occupy(self, spec: EnvironmentSpec) -> None:
        await self.docker.containers.create({"Image": self.image, "Cmd": ["true"]}, name=spec.name)

    async def vacate(self, spec: EnvironmentSpec) -> bool:
        try:
            await self.docker.containers.container(spec.name).delete(force=True)
        except DockerError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def leftovers(self) -> list[str]:
        found = []
        for instance in (self.instance, f"{self.instance}-b"):
            found += await self.docker.containers.list(all=True, filters={"label": [f"{INSTANCE}={instance}"]})
        return [container["Names"][0] for container in found]

    async def clean_up(self) -> list[str]:
        try:
            return await super().clean_up()
        finally:
            await self.docker.close()
