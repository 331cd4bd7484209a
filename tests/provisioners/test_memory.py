"""The in-memory runtime conforms, and goes wrong on cue."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from consumer.catalog.environment import EnvironmentSpec
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Environment, Provisioner
from consumer.provisioners.memory import Call, MemoryEngine, MemoryProvisioner
from tests.provisioners.conformance import Conformance
from tests.provisioners.harness import Harness, ignore


class MemoryHarness(Harness):
    serves_http = False

    def __init__(self) -> None:
        super().__init__()
        self.engine = MemoryEngine(latency=0.002)

    def new_provisioner(self, instance: str) -> Provisioner:
        return MemoryProvisioner(self.engine, instance=instance)

    def unreachable(self) -> Provisioner:
        engine = MemoryEngine()
        engine.reachable = False
        return MemoryProvisioner(engine)

    async def stop(self, environment: Environment) -> None:
        self.engine.stop(environment.key)

    async def occupy(self, spec: EnvironmentSpec) -> None:
        self.engine.occupy(spec.name, spec)

    async def vacate(self, spec: EnvironmentSpec) -> bool:
        return self.engine.vacate(spec.name)

    async def variables(self, environment: Environment) -> Mapping[str, str]:
        return self.engine.spec_of(environment.key).environment

    async def leftovers(self) -> list[str]:
        return sorted(self.engine.names()) + self.engine.violations


@pytest.fixture
async def harness() -> AsyncIterator[MemoryHarness]:
    harness = MemoryHarness()
    yield harness
    assert await harness.clean_up() == []


class TestConformance(Conformance):
    """All of it."""


async def test_a_scripted_failure_hits_the_call_it_is_meant_for(harness: MemoryHarness) -> None:
    provisioner = harness.provisioner()
    harness.engine.fail("ensure", Transient("runtime_error", "on cue"), nth=2)

    await provisioner.ensure(harness.spec("r-1"), ignore)
    with pytest.raises(Transient, match="on cue"):
        await provisioner.ensure(harness.spec("r-2"), ignore)
    await provisioner.ensure(harness.spec("r-3"), ignore)

    assert {each.reservation_id for each in await provisioner.list()} == {"r-1", "r-3"}


async def test_a_lost_reply_leaves_the_work_done(harness: MemoryHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()
    harness.engine.lose_reply("ensure", Transient("runtime_error", "lost"))
    harness.engine.lose_reply("remove", Transient("runtime_error", "lost"))

    with pytest.raises(Transient):
        await provisioner.ensure(spec, ignore)
    assert await provisioner.find(spec.key) is not None
    with pytest.raises(Transient):
        await provisioner.remove(spec.key)

    assert await provisioner.remove(spec.key) is False


async def test_calls_are_recorded_in_order_and_counted(harness: MemoryHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()

    await provisioner.ensure(spec, ignore)
    await provisioner.find(spec.key)
    await provisioner.ensure(spec, ignore)

    assert harness.engine.calls == [
        Call("ensure", 1, spec.key, spec),
        Call("find", 1, spec.key),
        Call("ensure", 2, spec.key, spec),
    ]


async def test_latency_can_be_a_gate() -> None:
    gate = asyncio.Event()

    async def closed(call: Call) -> None:
        await gate.wait()

    provisioner = MemoryProvisioner(MemoryEngine(closed))
    listing = asyncio.create_task(provisioner.list())
    await asyncio.sleep(0.01)
    assert not listing.done()

    gate.set()

    assert await listing == []


async def test_two_live_environments_of_one_reservation_are_noticed() -> None:
    engine, harness = MemoryEngine(latency=0.01), MemoryHarness()
    provisioner, spec = MemoryProvisioner(engine, instance=harness.instance), harness.spec()

    await asyncio.gather(
        provisioner.ensure(spec, ignore), provisioner.ensure(replace(spec, name=f"{spec.name}-x"), ignore)
    )

    assert engine.max_live_per_key == {spec.key: 2}
    assert len(engine.violations) == 1
    assert spec.name in engine.violations[0]


async def test_one_live_environment_is_no_violation(harness: MemoryHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()

    await provisioner.ensure(spec, ignore)
    harness.engine.stop(spec.key)
    await provisioner.ensure(spec, ignore)

    assert harness.engine.max_live_per_key == {spec.key: 1}


async def test_a_foreign_name_does_not_block_for_ever(harness: MemoryHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()
    harness.engine.occupy(spec.name, spec)
    with pytest.raises(Permanent):
        await provisioner.ensure(spec, ignore)

    assert harness.engine.vacate(spec.name)

    assert (await provisioner.ensure(spec, ignore)).name == spec.name
