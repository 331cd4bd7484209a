"""Moorage is killed at every step of starting and ending a process, and the next one puts things in order."""

import os

import pytest

from consumer.handling.ports import Status
from tests.provisioners.harness import ignore
from tests.provisioners.process.harness import ProcessHarness

_PROCESS = "consumer.provisioners.process"
_STARTING = [
    f"{_PROCESS}.store:Store.create:before",
    f"{_PROCESS}.store:_write:after",
    f"{_PROCESS}.store:Store.create:after",
    f"{_PROCESS}.store:Store.update:after",
    "subprocess:Popen:after",
    "delivered",
    f"{_PROCESS}.lifecycle:launch:after",
]
_ENDING = [
    f"{_PROCESS}.store:Store.mark_dying:after",
    "os:killpg:after",
    f"{_PROCESS}.lifecycle:end_family:after",
    f"{_PROCESS}.store:Store.clear_leftovers:before:2",
    "shutil:rmtree:before",
    f"{_PROCESS}.store:Store.discard:after",
]


@pytest.mark.parametrize("point", _STARTING)
async def test_killed_while_starting_then_ensured_there_is_one(harness: ProcessHarness, point: str) -> None:
    spec, provisioner = harness.spec(), harness.provisioner()
    await harness.ensure_elsewhere(spec, die=point)

    made = await provisioner.ensure(spec, ignore)

    assert made.status is Status.RUNNING
    assert await provisioner.list() == [made]
    assert {os.getsid(each.pid) for each in harness.processes()} == {int(made.native_id)}
    assert {os.getsid(each.pid) for each in harness.processes()} == {int(made.native_id)}
    await harness.variables(made)


@pytest.mark.parametrize("point", _STARTING)
async def test_killed_while_starting_then_removed_there_is_none(harness: ProcessHarness, point: str) -> None:
    spec, provisioner = harness.spec(), harness.provisioner()
    await harness.ensure_elsewhere(spec, die=point)

    await provisioner.remove(spec.key)

    assert await harness.leftovers() == []


@pytest.mark.parametrize("point", _ENDING)
async def test_killed_while_ending_then_removed_there_is_none(harness: ProcessHarness, point: str) -> None:
    spec, provisioner = harness.spec(), harness.provisioner()
    await provisioner.ensure(spec, ignore)
    await harness.remove_elsewhere(spec.key, die=point)

    found = await provisioner.find(spec.key)
    await provisioner.remove(spec.key)

    assert found is None or found.status is Status.DYING
    assert await harness.leftovers() == []


@pytest.mark.parametrize("point", _ENDING)
async def test_killed_while_ending_then_ensured_there_is_a_new_one(harness: ProcessHarness, point: str) -> None:
    spec, provisioner = harness.spec(), harness.provisioner()
    before = await provisioner.ensure(spec, ignore)
    await harness.remove_elsewhere(spec.key, die=point)

    after = await provisioner.ensure(spec, ignore)

    assert after.native_id != before.native_id
    assert await provisioner.list() == [after]
    await harness.variables(after)
