"""How much is taken in: doors that close at a bound, and open again a good way below it."""

import asyncio
import random

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


# Waiting for another attempt


async def test_a_door_closes_when_too_many_wait_for_another_attempt_and_opens_at_seventy_percent_of_that() -> None:
    assignment, other = partition(1), partition(2)
    async with scene(**(UNBOUNDED | {"max_parked": 10})) as stage:
        states = []
        for number in range(10):
            states.append(stage.dispatcher.has_room(assignment))
            stage.admit(assignment, number, Job(str(number), endings=(Retry(number + 1), Done())))
            await asyncio.sleep(0)
            await asyncio.sleep(1e-3)
        assert (states, stage.dispatcher.parked) == ([True] * 10, 10)
        assert not stage.dispatcher.has_room(other)
        states = []
        for _ in range(10):
            states.append((stage.dispatcher.parked, stage.dispatcher.has_room(other)))
            await asyncio.sleep(1)
        assert states == [(10, False), (9, False), (8, False), *((parked, True) for parked in range(7, 0, -1))]


async def test_what_waits_for_another_attempt_leaves_room_below_its_own_bound() -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_parked": 10})) as stage:
        for number in range(9):
            stage.admit(assignment, number, Job(str(number), endings=(Retry(60), Done())))
        stage.admit(assignment, 0, *(f"behind it {number}" for number in range(100)))
        await asyncio.sleep(1)
        assert (stage.dispatcher.parked, stage.dispatcher.has_room(assignment)) == (9, True)
        await stage.settle()


async def test_waiting_for_room_ends_when_few_enough_wait_for_another_attempt() -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_parked": 2})) as stage:
        for number in (30, 60):
            stage.admit(assignment, number, Job(str(number), endings=(Retry(number), Done())))
        await asyncio.sleep(1)
        await stage.dispatcher.wait_for_room(100)
        assert (now(), stage.dispatcher.has_room(assignment)) == (30, True)


async def test_a_door_that_was_closed_for_two_reasons_opens_when_both_are_gone() -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_parked": 1, "max_records": 2})) as stage:
        stage.admit(assignment, "a", Job("waits", endings=(Retry(60), Done())))
        stage.admit(assignment, "b", Job("runs", takes=5))
        await asyncio.sleep(10)
        assert (stage.dispatcher.outstanding, stage.dispatcher.has_room(assignment)) == (1, False)
        await asyncio.sleep(55)
        assert (stage.dispatcher.outstanding, stage.dispatcher.has_room(assignment)) == (0, True)


async def test_leaving_a_partition_makes_the_room_that_its_waiting_work_took() -> None:
    leaving, staying = partition(1), partition(2)
    async with scene(**(UNBOUNDED | {"max_parked": 5})) as stage:
        for number in range(5):
            stage.admit(leaving, number, Job(str(number), endings=(Retry(1000),)))
        await asyncio.sleep(1)
        assert not stage.dispatcher.has_room(staying)
        await stage.dispatcher.drain([leaving], 60)
        assert (stage.dispatcher.parked, stage.dispatcher.has_room(staying)) == (0, True)
        await stage.dispatcher.wait_for_room(100)
        assert now() == 1


# Waiting for the broker


async def test_no_handler_starts_while_too_many_outcomes_are_unacknowledged() -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_unacknowledged": 3, "concurrency": 1})) as stage:
        for number in range(10):
            stage.admit(assignment, number, Job(str(number), takes=1, endings=(Done((Ack(100),)),)))
        await asyncio.sleep(99)
        assert (len(stage.happened()), stage.dispatcher.unacknowledged) == (3, 3)
        await stage.settle()
        starts = sorted(stage.times().values())
        assert starts == [0, 1, 2, 101, 102, 103, 202, 203, 204, 303]
        assert assignment.watermark.position == 10


async def test_what_was_running_already_may_go_beyond_the_bound_of_unacknowledged_outcomes() -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_unacknowledged": 3, "concurrency": 8})) as stage:
        for number in range(8):
            stage.admit(assignment, number, Job(str(number), takes=1, endings=(Done((Ack(10 + number),)),)))
        await asyncio.sleep(2)
        assert stage.dispatcher.unacknowledged == 8
        stage.admit(assignment, "a", "waits", "waits too")
        stage.admit(assignment, "b", "waits as well")
        await asyncio.sleep(13.5)  # those of the seconds 11 to 15 were acknowledged
        assert (stage.dispatcher.unacknowledged, len(stage.happened())) == (3, 8)
        await asyncio.sleep(1)
        assert stage.times() == stage.times() | {"waits": 16, "waits as well": 16, "waits too": 16}
        await stage.settle()
        assert assignment.watermark.position == 11


async def test_an_outcome_without_publications_waits_for_nobody() -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_unacknowledged": 1, "concurrency": 1})) as stage:
        stage.admit(assignment, "a", *(Job(str(number), takes=1) for number in range(10)))
        await asyncio.sleep(10.5)
        assert (stage.dispatcher.unacknowledged, assignment.watermark.position) == (0, 10)


@pytest.mark.parametrize("error", [OSError("no broker"), asyncio.CancelledError()], ids=["failed", "cancelled"])
async def test_publishing_that_failed_is_not_waited_for_any_more(error: BaseException) -> None:
    assignment = partition()
    async with scene(**(UNBOUNDED | {"max_unacknowledged": 1, "concurrency": 4})) as stage:
        for number in range(5):
            endings = (Done((Ack(1, error),)), Done((Ack(1),)))
            stage.admit(assignment, number, Job(str(number), endings=endings))
        await stage.settle()
        assert (stage.dispatcher.unacknowledged, assignment.watermark.position) == (0, 5)


async def test_a_partition_that_is_left_takes_its_unacknowledged_outcomes_with_it_only_when_they_are_answered() -> None:
    leaving, staying = partition(1), partition(2)
    async with scene(**(UNBOUNDED | {"max_unacknowledged": 1, "concurrency": 4})) as stage:
        stage.admit(leaving, "a", Job("unanswered", endings=(Done((Ack(100),)),)))
        await asyncio.sleep(1)
        stage.admit(staying, "b", "waits")
        cut_off = await stage.dispatcher.drain([leaving], 10)
        assert [item.stage for item in cut_off] == ["publishing"]
        assert stage.happened() == ["unanswered"]
        await asyncio.sleep(100)
        assert stage.times()["waits"] == 100
        assert (leaving.watermark.position, staying.watermark.position) == (0, 1)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("bound", [1, 2, 7])
async def test_whatever_is_unacknowledged_when_all_is_handled_in_the_end(seed: int, bound: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - the same story every time
    assignment = partition()
    limits = UNBOUNDED | {"max_unacknowledged": bound, "concurrency": draw.choice([1, 2, 16]), "max_parked": 3}
    async with scene(**limits) as stage:
        for number in range(200):
            trouble = draw.choice([(), (), (Retry(draw.random()),), (Done((Ack(draw.random(), OSError()),)),)])
            last = draw.choice([Done(), Done((Ack(draw.random()),))])
            takes = draw.choice([None, 0.0, draw.random()])
            stage.admit(assignment, draw.randrange(50), Job(str(number), takes=takes, endings=(*trouble, last)))
        await stage.settle()
        assert (assignment.watermark.position, stage.dispatcher.unacknowledged) == (200, 0)
        assert stage.dispatcher.has_room(assignment)
