"""Hundreds of environments come and go at once while requests fail at random: nothing of any of them is left."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TypeVar

import psutil
import pytest

from consumer.catalog.environment import EnvironmentSpec, Port
from consumer.handling.errors import Transient, Unavailable
from consumer.handling.ports import Environment, Provisioner, Status
from tests.provisioners.docker.harness import DockerHarness
from tests.provisioners.docker.proxy import EngineProxy
from tests.provisioners.docker.test_volumes import volume
from tests.provisioners.harness import WEB_PORT, ignore, until
from tests.services.ports import free_port, listening

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

T = TypeVar("T")

CYCLES, AT_ONCE = 500, 40
CHANCE = 0.05
"""Of each request to fail, which is about one in every second cycle."""

BROKEN_OFF = 0.6
"""How many starts their end breaks off, sooner rather than later: what runs already is the costly part."""

SEED = 7
KINDS = ("refuse", "abandon", "lose_reply", "cut_reply", "delay", "answer 409", "answer 500")


@dataclass
class Cycles:
    """Environments that are made and removed, and what was seen of them."""

    harness: DockerHarness
    members: list[Provisioner]
    ports: set[int] = field(default_factory=set)
    """All that environments ever had on the host."""

    seen: Counter[str] = field(default_factory=Counter)
    _usual: float = 1.0
    """Seconds that the last start took."""

    async def run(self) -> None:
        """A worker's environments have one port of the host in turn, so that the next needs what the last one had."""
        left = iter(range(CYCLES))
        ports: set[int] = set()
        while len(ports) < AT_ONCE:
            ports.add(free_port())

        async def worker(port: int) -> None:
            for number in left:
                await self._cycle(number, port, Random(f"{SEED}/{number}"))  # noqa: S311 - the same story every time

        async with asyncio.TaskGroup() as workers:
            for port in ports:
                workers.create_task(worker(port))

    async def _cycle(self, number: int, port: int, random: Random) -> None:
        member = random.choices(self.members, weights=(3, 1))[0]
        spec = self._spec(number, random, port)
        began = asyncio.get_running_loop().time()
        ensuring = asyncio.create_task(self._persistently(lambda: member.ensure(spec, ignore)))
        if random.random() < BROKEN_OFF:
            await asyncio.wait([ensuring], timeout=self._usual * random.random() ** 2)
            ensuring.cancel()
        [made] = await asyncio.gather(ensuring, return_exceptions=True)
        if isinstance(made, asyncio.CancelledError):
            self.seen["broken off"] += 1
        elif isinstance(made, BaseException):
            raise made
        else:
            self._usual = asyncio.get_running_loop().time() - began
            self._examine(made, spec)
        await self._persistently(lambda: member.remove(spec.key))

    def _spec(self, number: int, random: Random, port: int) -> EnvironmentSpec:
        reservation = f"r-{number}"
        return self.harness.spec(
            reservation,
            command=("sleep", "1000"),
            ports=(Port(WEB_PORT, host=port), *random.choice([(), (Port(9000),)])),
            volume=volume(self.harness, reservation) if random.random() < 0.5 else None,
        )

    def _examine(self, made: Environment, spec: EnvironmentSpec) -> None:
        self.seen["made"] += 1
        assert made.status is Status.RUNNING
        assert {each.port for each in made.access.ports} == {each.container for each in spec.ports}
        self.ports |= {each.host_port for each in made.access.ports}

    async def _persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        for _ in range(20):
            try:
                return await call()
            except (Transient, Unavailable) as error:
                self.seen[error.code] += 1
            await asyncio.sleep(0.1)
        return await call()


async def test_nothing_is_left_of_five_hundred_environments_amid_faults(
    harness: DockerHarness, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await harness.leftovers() == []
    opened = psutil.Process().num_fds()
    members = [harness.provisioner_with(url=proxy.url, network=network) for network in ("isolated", "private")]
    cycles = Cycles(harness, members)

    proxy.disturb(CHANCE, seed=SEED)
    await cycles.run()
    proxy.disturb(0)
    await proxy.settled()
    faults = Counter(fault for fault, _ in proxy.faults)
    assert min(faults[kind] for kind in KINDS) > 10, faults
    assert min(cycles.seen["made"], cycles.seen["broken off"]) > CYCLES / 5, cycles.seen

    # What the engine made after its client had hung up, the comparison that Moorage repeats finds.
    for_nobody = [request for fault, request in proxy.faults if fault == "abandon" and "/create" in request]
    assert len(await harness.leftovers()) <= len(for_nobody)
    monkeypatch.setattr("consumer.provisioners.docker.networks._LEFT_OVER_AFTER", timedelta(0))
    for member in members:
        await asyncio.gather(*(member.remove(each.key) for each in await member.list()))
        await member.list()
    assert set(await harness.leftovers()) <= {each["Name"] for each in await harness.networks()}

    monkeypatch.setattr("consumer.provisioners.docker.networks._FAREWELL", 60)  # a busy engine is no failure here
    for member in members:
        await member.close()
    await harness.forgive_miscounts()
    assert await harness.leftovers() + await harness.networks() == []
    assert [port for port in cycles.ports - await harness.ports_in_use() if listening(port)] == []
    await until(lambda: psutil.Process().num_fds() <= opened)
