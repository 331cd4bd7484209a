"""The engine tells of containers that end, and what it says of how they ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from consumer.catalog.environment import Limits
from consumer.handling.ports import Ending, Provisioner, Status
from tests.provisioners.docker.harness import DockerHarness, on_both, shell
from tests.provisioners.docker.proxy import EngineProxy
from tests.provisioners.harness import ignore, until

pytestmark = pytest.mark.docker

EVENTS = r"GET \S+/events"


@asynccontextmanager
async def heard(provisioner: Provisioner) -> AsyncIterator[list[str]]:
    """The reservations whose environments have ended since.

    The engine was asked, and is listening before it has done anything that takes it as long as making a container.
    """
    ended: list[str] = []
    watching = asyncio.create_task(provisioner.watch(ended.append))
    try:
        await until(lambda: any(task.get_name() == "docker-events" for task in asyncio.all_tasks()))
        yield ended
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def ending_of(provisioner: Provisioner, key: str) -> Ending | None:
    """How the environment ended; the engine tells that it did a moment before it shows it."""
    while True:
        found = await provisioner.find(key)
        assert found is not None
        if found.status is Status.STOPPED:
            return found.ending
        await asyncio.sleep(0.05)


@on_both
async def test_what_is_killed_by_hand_is_heard_of(harness: DockerHarness) -> None:
    provisioner, other = harness.provisioner(), harness.provisioner(f"{harness.instance}-b")
    async with heard(provisioner) as ended:
        made = await provisioner.ensure(harness.spec(), ignore)
        stranger = await other.ensure(harness.spec("r-2", instance=f"{harness.instance}-b"), ignore)

        await harness.stop(stranger)
        await harness.stop(made)

        await until(lambda: ended == ["r-1"])
    assert await ending_of(provisioner, made.key) == Ending(137)


async def test_what_runs_out_of_memory_is_heard_of_and_says_so(harness: DockerHarness) -> None:
    provisioner = harness.provisioner()
    greedy = shell("sleep 4; exec awk 'BEGIN { s = \"xxxxxxxx\"; while (1) s = s s }'")
    spec = harness.spec(command=greedy, limits=Limits(memory_bytes=16 << 20))
    async with heard(provisioner) as ended:
        await provisioner.ensure(spec, ignore)

        await until(lambda: ended == ["r-1"])
    ending = await ending_of(provisioner, spec.key)
    assert ending is not None
    assert ending.out_of_memory


@on_both
async def test_an_engine_that_hangs_up_is_listened_to_again(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.on(EVENTS, "refuse")
    provisioner = harness.provisioner_with(url=proxy.url)
    async with heard(provisioner) as ended:
        await until(lambda: proxy.count(EVENTS) == 2)
        made = await harness.provisioner().ensure(harness.spec(), ignore)

        await harness.stop(made)

        await until(lambda: ended == ["r-1"])


async def test_without_an_engine_it_waits(harness: DockerHarness) -> None:
    provisioner = harness.unreachable()
    watching = asyncio.create_task(provisioner.watch(lambda _: None))
    given_up, _ = await asyncio.wait([watching], timeout=1.5)
    assert not given_up
    watching.cancel()
    await asyncio.wait([watching])
    await provisioner.close()
