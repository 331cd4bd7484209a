"""A real engine, under an instance name of its own for each test, and a door in front of it that can slam."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.provisioners.docker.harness import DockerHarness
from tests.provisioners.docker.proxy import EngineProxy
from tests.services import DockerEngine


@pytest.fixture
async def harness(docker_engine: DockerEngine) -> AsyncIterator[DockerHarness]:
    harness = DockerHarness(docker_engine.url, docker_engine.image)
    yield harness
    assert await harness.clean_up() == []


@pytest.fixture
async def proxy(docker_engine: DockerEngine, tmp_path: Path) -> AsyncIterator[EngineProxy]:
    if not docker_engine.url.startswith("unix://"):
        pytest.skip("the proxy speaks to unix sockets only")
    async with EngineProxy(Path(docker_engine.url.removeprefix("unix://")), tmp_path / "docker.sock") as proxy:
        yield proxy
