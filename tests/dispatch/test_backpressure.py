"""How much is taken in: doors that close at a bound, and open again a good way below it."""

import asyncio

import pytest

from consumer.dispatch import Assignment, Done, Retry
from tests.dispatch.scene import Ack, Ending, Job, Scene, now, partition, scene

UNBOUNDED = {"max_records": 10**9, "max_bytes": 10**9, "max_records_per_partition": 10**9}


def admit_ten(stage: Scene, assignment: Assignment, *, size: int = 0) -> None:
    """Ten jobs of one key that end after 1, 2, ... 10 seconds."""
    stage.admit(assignment, assignment, *(Job(str(number), takes=1) for number in range(10)), size=size)


@pytest.mark.parametrize(
    ("bound", "size"),
    [({"max_records": 10}, 0), ({"max_bytes": 10_000}, 1000), ({"max_records_per_partition": 10}, 0)],
    ids=["records", "bytes", "records of a partition"],
)
async def test_a_door_closes_at_its_bound_and_opens_at_seventy_percent_of_it(bound: dict[str, int], size: int) -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | bound)) as stage:
        assert stage.dispatcher.has_room(assignment)
        admit_ten(stage, assignment, size=size)
        states = []
        for _ in range(10):
            states.append(stage.dispatcher.has_room(assignment))
            await asyncio.sleep(1.01)
        assert states == [False, False, False, *[True] * 7]


async def test_below_its_bound_a_door_stays_open() -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_records": 11, "max_bytes": 101, "max_records_per_partition": 11})) as stage:
        admit_ten(stage, assignment, size=10)
        assert stage.dispatcher.has_room(assignment)


async def test_a_full_partition_leaves_room_for_the_others() -> None:
    full, other = partition(1), partition(2)
    async with scene(**(UNBOUNDED | {"max_records_per_partition": 10})) as stage:
        admit_ten(stage, full)
        assert not stage.dispatcher.has_room(full)
        assert stage.dispatcher.has_room(other)


async def test_what_was_polled_already_is_taken_beyond_the_bound() -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_records": 3})) as stage:
        admit_ten(stage, assignment)
        assert stage.dispatcher.outstanding == 10
        await stage.settle()
        assert assignment.watermark.position == 10


async def test_every_part_of_a_record_counts() -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_records": 10})) as stage:
        stage.admit_record(assignment, *((number, Job(str(number), takes=1)) for number in range(10)))
        assert not stage.dispatcher.has_room(assignment)
        await stage.settle()
        assert stage.dispatcher.has_room(assignment)


@pytest.mark.parametrize("ending", [Done((Ack(10),)), Retry(10)], ids=["publishing", "waiting"])
async def test_work_counts_until_it_is_done_and_not_only_while_it_runs(ending: Ending) -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_records": 1})) as stage:
        stage.admit(assignment, "a", Job("one", endings=(ending, Done())))
        await asyncio.sleep(9)
        assert not stage.dispatcher.has_room(assignment)
        await asyncio.sleep(2)
        assert stage.dispatcher.has_room(assignment)


async def test_a_single_record_above_the_bound_is_handled_alone() -> None:
    assignment = partition()
    async with scene(max_bytes=100) as stage:
        stage.admit(assignment, "a", Job("huge", takes=1), size=10**9)
        assert not stage.dispatcher.has_room(assignment)
        await stage.settle()
        assert stage.dispatcher.has_room(assignment)


@pytest.mark.parametrize("door", ["max_records", "max_records_per_partition"])
async def test_waiting_for_room_ends_when_a_door_opens(door: str) -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {door: 10})) as stage:
        admit_ten(stage, assignment)
        await stage.dispatcher.wait_for_room(100)
        assert (now(), stage.dispatcher.has_room(assignment)) == (3, True)


async def test_waiting_for_room_ends_after_its_timeout() -> None:
    assignment = partition()
    async with scene(max_records=10) as stage:
        admit_ten(stage, assignment)
        await stage.dispatcher.wait_for_room(2.5)
        assert (now(), stage.dispatcher.has_room(assignment)) == (2.5, False)


async def test_a_door_that_opens_between_the_look_and_the_wait_is_not_missed() -> None:
    assignment = partition()
    async with scene(max_records=10) as stage:
        admit_ten(stage, assignment)
        assert not stage.dispatcher.has_room(assignment)
        await asyncio.sleep(5)  # the door opens at 3
        await stage.dispatcher.wait_for_room(100)
        assert now() == 5
        await stage.dispatcher.wait_for_room(100)
        assert now() == 105  # but it opened only once


async def test_a_partition_that_is_left_has_no_room() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("slow", takes=5))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stage.dispatcher.drain([assignment], 10))
            await asyncio.sleep(1)
            assert not stage.dispatcher.has_room(assignment)
        assert not stage.dispatcher.has_room(assignment)
