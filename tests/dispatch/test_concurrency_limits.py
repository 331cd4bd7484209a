"""How many handlers run at a time, over all and in each group; and that every free slot is used."""

import asyncio

import pytest

from consumer.dispatch import Done, Retry, Work
from tests.dispatch.scene import Job, Scene, partition, scene


def group_of(work: Work[Job]) -> str | None:
    """The group is the first word of the job's name; `none` is no group."""
    group = work.item.name.split()[0]
    return None if group == "none" else group


def admit_each(stage: Scene, *names: str, takes: float = 1) -> None:
    """Jobs with a key of their own each."""
    assignment = partition()
    for name in names:
        stage.admit(assignment, name, Job(name, takes=takes))


@pytest.mark.parametrize(("concurrency", "seconds"), [(1, 12), (5, 3), (12, 1), (64, 1)])
async def test_no_more_run_than_allowed_and_no_fewer(concurrency: int, seconds: float) -> None:
    async with scene(concurrency=concurrency) as stage:
        admit_each(stage, *(str(number) for number in range(12)))
        await stage.settle()
        assert stage.most_running["all"] == min(concurrency, 12)
        assert max(stage.times("end").values()) == seconds


async def test_slots_that_became_idle_are_used_again() -> None:
    async with scene(concurrency=3) as stage:
        for start in range(4):
            admit_each(stage, *(f"{start} {number}" for number in range(start + 1)))
            await asyncio.sleep(10)
        assert list(stage.times().values()) == [0, 10, 10, 20, 20, 20, 30, 30, 30, 31]


async def test_a_group_never_exceeds_its_limit_and_leaves_the_other_slots_to_others() -> None:
    async with scene(concurrency=4, per_group=(("docker", 2),), group_of=group_of) as stage:
        admit_each(stage, *(f"docker {number}" for number in range(6)), *(f"none {number}" for number in range(4)))
        await stage.settle()
        assert (stage.most_running["docker"], stage.most_running["all"]) == (2, 4)
        ends = stage.times("end")
        assert max(end for name, end in ends.items() if name.startswith("docker")) == 3
        assert max(end for name, end in ends.items() if name.startswith("none")) == 2


async def test_a_group_without_a_limit_of_its_own_may_use_every_slot() -> None:
    async with scene(concurrency=4, per_group=(("docker", 2),), group_of=group_of) as stage:
        admit_each(stage, *(f"podman {number}" for number in range(4)))
        await stage.settle()
        assert stage.most_running["podman"] == 4


async def test_a_long_queue_in_one_group_does_not_starve_another() -> None:
    async with scene(concurrency=2, group_of=group_of) as stage:
        admit_each(stage, *(f"docker {number}" for number in range(100)))
        admit_each(stage, *(f"process {number}" for number in range(3)))
        await stage.settle()
        assert [stage.times()[f"process {number}"] for number in range(3)] == [0, 1, 2]


async def test_a_full_group_lets_others_pass_while_its_slots_are_taken_for_long() -> None:
    async with scene(concurrency=3, per_group=(("docker", 1),), group_of=group_of) as stage:
        admit_each(stage, "docker slow", "docker waits", takes=100)
        admit_each(stage, *(f"process {number}" for number in range(4)))
        await stage.settle()
        starts = stage.times()
        assert [starts[f"process {number}"] for number in range(4)] == [0, 0, 1, 1]
        assert starts["docker waits"] == 100


async def test_the_group_is_asked_for_again_at_every_attempt() -> None:
    def moving(work: Work[Job]) -> str | None:
        return ("docker", "podman")[work.attempt]

    async with scene(group_of=moving) as stage:
        stage.admit(partition(), "a", Job("moved", endings=(Retry(1), Done())))
        await stage.settle()
        assert stage.most_running == {"docker": 1, "podman": 1, "all": 1}


async def test_a_group_that_cannot_be_told_costs_neither_the_work_nor_its_key() -> None:
    def broken(work: Work[Job]) -> str | None:
        if len(asked) < 2:
            asked.append(work.item.name)
            raise LookupError("no such runtime")
        return None

    asked: list[str] = []
    async with scene(group_of=broken) as stage:
        stage.admit(partition(), "a", "first", "second")
        await stage.settle()
        assert asked == ["first", "second"]
        assert [(name, str(error)) for name, error in stage.crashes] == [
            ("first", "no such runtime"),
            ("second", "no such runtime"),
        ]
