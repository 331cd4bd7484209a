"""The Docker runtime under instance names of its own, looked at through the engine's API without our code."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import INSTANCE, KEY
from consumer.handling.ports import Environment, Provisioner
from consumer.provisioners.docker import DockerOptions, DockerProvisioner
from consumer.provisioners.docker.dialects import DOCKER, Dialect
from tests.provisioners.harness import Harness


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


_PODMAN = pytest.param("podman", marks=pytest.mark.podman)
_ROOTLESS = pytest.param("rootless", marks=pytest.mark.podman)

on_podman = pytest.mark.parametrize("engine", [_PODMAN], indirect=True)
on_both = pytest.mark.parametrize("engine", ["docker", _PODMAN], indirect=True)
on_each = pytest.mark.parametrize("engine", ["docker", _PODMAN, _ROOTLESS], indirect=True)


@dataclass(frozen=True)
class EngineUnderTest:
    url: str
    image: str
    dialect: Dialect


SOON = 4.0
"""Seconds in which a program that ends at once has ended, on a busy machine too."""


class DockerHarness(Harness):
    labels_change = False
    command = shell("env > /www/env.txt; exec httpd -f -p 8080 -h /www")

    def __init__(self, url: str, image: str, dialect: Dialect = DOCKER) -> None:
        super().__init__()
        self.url, self.image, self.dialect = url, image, dialect
        self.docker = Docker(url=url)
        self._miscounted: set[str] = set()

    def options(self, instance: str, **changes: Any) -> DockerOptions:
        usual = DockerOptions(instance, self.url, self.dialect, settle=0.05, stop_timeout=1.0)
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
            found += (await self.docker.volumes.list(filters={"label": [f"{INSTANCE}={instance}"]}))["Volumes"] or []
        networks = [each["Name"] for each in await self.networks() if KEY in each["Labels"]]
        return [each["Names"][0] if "Names" in each else each["Name"] for each in found] + networks

    async def networks(self) -> list[dict[str, Any]]:
        """Everything of this test's instances among the engine's networks; the one that is shared as well."""
        ours = [f"{INSTANCE}={instance}" for instance in (self.instance, f"{self.instance}-b")]
        shown = [each for label in ours for each in await self.docker.networks.list(filters={"label": [label]})]
        return [each for each in shown if each["Id"] not in self._miscounted]

    async def forgive_miscounts(self) -> None:
        """Docker 20.10 keeps a network at times whose containers are all gone, and says that it has endpoints.

        Call it when there should be none any more: one that the engine lets go of was left by us.
        """
        for each in await self.networks():
            network = await self.docker.networks.get(each["Id"])
            if not (await network.show())["Containers"]:
                with pytest.raises(DockerError, match="has active endpoints"):
                    await network.delete()
                self._miscounted.add(each["Id"])

    async def ports_in_use(self) -> set[int]:
        """The ports of the host that anybody's containers have."""
        shown = await self.docker.containers.list()
        return {port["PublicPort"] for each in shown for port in each["Ports"] if "PublicPort" in port}

    async def clean_up(self) -> list[str]:
        try:
            left = await super().clean_up()
            await self.forgive_miscounts()
            return left + [network["Name"] for network in await self.networks()]
        finally:
            await self.docker.close()
