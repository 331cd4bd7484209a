"""An engine whose disk somebody has filled: starts wait for room, and an end still works and makes some."""

import os
from collections.abc import Iterator

import pytest

from consumer.catalog.environment import EnvironmentSpec
from consumer.handling.errors import Transient
from consumer.handling.ports import Status
from consumer.provisioners.docker.dialects import DOCKER
from tests.conftest import running
from tests.provisioners.docker.harness import DockerHarness, EngineUnderTest, shell
from tests.provisioners.docker.test_images import push_another
from tests.provisioners.docker.test_volumes import volume
from tests.provisioners.harness import ignore, until
from tests.services import DockerEngine, Registry

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

FILL = shell("cat /dev/zero > /everything; exec sleep 1000")


@pytest.fixture
def own_engine() -> Iterator[DockerEngine]:
    """An engine with a disk that one container can fill."""
    yield from running(lambda: DockerEngine.start_own(disk_megabytes=64))


@pytest.fixture
def engine(own_engine: DockerEngine) -> EngineUnderTest:
    return EngineUnderTest(own_engine.url, own_engine.image, DOCKER)


async def test_starts_on_a_full_disk_wait_for_room_and_an_end_makes_it(
    harness: DockerHarness, own_engine: DockerEngine, registry: Registry
) -> None:
    assert own_engine.run_dir is not None
    disk = own_engine.run_dir.path / "data"
    pulled = f"{registry.address}/{harness.instance}:1"
    await push_another(harness, pulled)
    provisioner, greedy = harness.provisioner(), harness.spec("greedy", command=FILL)
    ended = harness.spec("ended")
    await harness.stop(await provisioner.ensure(ended, ignore))
    wanted = {
        "new": harness.spec("new"),
        "with a volume": harness.spec("with-volume", volume=volume(harness, "with-volume")),
        "pulled": harness.spec("pulled", image=pulled),
        "started again": ended,
    }

    await provisioner.ensure(greedy, ignore)
    await until(lambda: os.statvfs(disk).f_bavail == 0)
    said = {what: await refused(harness, spec) for what, spec in wanted.items()}

    assert {what: error.code for what, error in said.items()} == dict.fromkeys(wanted, "runtime_full")
    assert all("no room" in error.message and str(disk) not in error.message for error in said.values())
    assert {each.reservation_id for each in await provisioner.list()} == {"greedy", "ended"}
    await provisioner.remove(wanted["with a volume"].key)
    assert len(await harness.leftovers()) == 2

    assert await provisioner.remove(greedy.key) is True
    for spec in wanted.values():
        assert (await provisioner.ensure(spec, ignore)).status is Status.RUNNING


async def refused(harness: DockerHarness, spec: EnvironmentSpec) -> Transient:
    with pytest.raises(Transient) as error:
        await harness.provisioner().ensure(spec, ignore)
    return error.value
