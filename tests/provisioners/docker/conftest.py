"""A real engine, under an instance name of its own for each test, and a door in front of it that can slam."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consumer.provisioners.docker.dialects import DOCKER, PODMAN
from tests.provisioners.docker.harness import DockerHarness, EngineUnderTest
from tests.provisioners.docker.proxy import EngineProxy


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> EngineUnderTest:
    """A Docker Engine, unless the test is for several kinds (`on_both`)."""
    match getattr(request, "param", "docker"):
        case "docker":
            docker = request.getfixturevalue("docker_engine")
            return EngineUnderTest(docker.url, docker.image, DOCKER)
        case kind:
            podman = request.getfixturevalue({"podman": "podman_engine", "rootless": "rootless_podman"}[kind])
            return EngineUnderTest(podman.url, f"docker.io/{podman.image}", PODMAN)


@pytest.fixture
async def harness(engine: EngineUnderTest) -> AsyncIterator[DockerHarness]:
    harness = DockerHarness(engine.url, engine.image, engine.dialect)
    yield harness
    assert await harness.clean_up() == []


@pytest.fixture
async def proxy(engine: EngineUnderTest, tmp_path: Path) -> AsyncIterator[EngineProxy]:
    if not engine.url.startswith("unix://"):
        pytest.skip("the proxy speaks to unix sockets only")
    async with EngineProxy(Path(engine.url.removeprefix("unix://")), tmp_path / "docker.sock") as proxy:
        yield proxy
