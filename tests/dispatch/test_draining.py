"""Leaving a partition: finish what can be finished in time, give up the rest in good order, disturb nobody else."""

import asyncio

import pytest

from consumer.dispatch import Done, OffsetMap, Retry
from tests.dispatch.scene import Ack, Ending, Job, now, partition, scene

PUBLISHED_AT_5 = Done((Ack(5),))


async def test_running_and_publishing_work_is_finished_and_queued_work_is_left_to_the_next_owner() -> None:
    assignment = partition()
    async with scene(concurrency=2) as stage:
        stage.admit(assignment, "a", Job("published", takes=1, endings=(PUBLISHED_AT_5,)), "queued")
        stage.admit(assignment, "b", Job("running", takes=2))
        stage.admit(assignment, "c", "ready")
        await asyncio.sleep(0.5)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert (now(), assignment.closed, stage.happened()) == (6, True, ["published", "running"])
        assert (assignment.watermark.position, assignment.watermark.pending) == (1, 2)
        await stage.settle()


async def test_a_record_of_several_parts_that_was_begun_is_finished_with_all_that_must_come_before() -> None:
    assignment = partition()
    async with scene(concurrency=1) as stage:
        stage.admit_record(assignment, ("a", Job("1 of 2", takes=1)), ("b", Job("2 of 2", takes=1)))
        stage.admit_record(assignment, ("c", "not begun"), ("b", "behind it"))
        await asyncio.sleep(0.5)
        stage.admit(assignment, "d", "alone")
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert (stage.happened(), assignment.watermark.position) == (["1 of 2", "2 of 2"], 1)


async def test_nothing_that_is_finished_while_draining_overtakes_its_key() -> None:
    assignment = partition()
    async with scene(concurrency=1) as stage:
        stage.admit(assignment, "z", Job("first", takes=1))
        stage.admit_record(assignment, ("b", "before 1"), ("c", "before 2"))
        stage.admit_record(assignment, ("a", Job("1 of 2", takes=1)), ("b", Job("2 of 2")))
        stage.admit(assignment, "b", "after")
        stage.dispatcher._lanes["a"].head.parts.begun = True
        await asyncio.sleep(0.5)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert sorted(stage.happened()) == ["1 of 2", "2 of 2", "before 1", "before 2", "first"]
        assert stage.happened().index("before 1") < stage.happened().index("2 of 2")
        assert assignment.watermark.position == 3


async def test_draining_nothing_takes_no_time() -> None:
    async with scene() as stage:
        assert await stage.dispatcher.drain([], 60) == []
        assert await stage.dispatcher.drain([partition()], 60) == []
        assert now() == 0


async def test_a_waiting_retry_is_given_up_at_once_and_what_follows_it_in_its_key_too() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("waiting", endings=(Retry(60),)), "behind it")
        stage.admit(assignment, "b", Job("running", takes=5))
        await asyncio.sleep(1)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert (now(), stage.happened()) == (5, ["waiting", "running"])
        assert assignment.watermark.position == 0
        await stage.settle()


async def test_a_retry_asked_for_while_draining_is_given_up() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("failing", takes=5, endings=(Retry(1),)), "behind it")
        stage.admit(assignment, "b", Job("other", takes=10))
        await asyncio.sleep(1)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert (now(), stage.happened()) == (10, ["failing", "other"])
        await stage.settle()


async def test_what_failed_to_be_published_while_draining_is_given_up() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("unheard", endings=(Done((Ack(5, OSError()),)),)), "behind it")
        await asyncio.sleep(1)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert (now(), stage.happened(), assignment.watermark.position) == (5, ["unheard"], 0)


async def test_a_record_that_arrives_while_draining_is_not_taken() -> None:
    """It would overtake what was given up, and would then come again after it."""
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("waiting", endings=(Retry(60),)))
        stage.admit(assignment, "b", Job("running", takes=5))
        await asyncio.sleep(1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stage.dispatcher.drain([assignment], 60))
            await asyncio.sleep(1)
            stage.admit(assignment, "a", "too late")
            stage.admit_record(assignment)
        stage.admit(assignment, "a", "even later")
        await stage.settle()
        assert stage.happened() == ["waiting", "running"]
        assert (assignment.watermark.position, assignment.watermark.pending) == (0, 1)


async def test_the_other_partitions_go_on() -> None:
    leaving, staying = partition(1), partition(2)
    async with scene() as stage:
        stage.admit(leaving, "a", Job("leaving", takes=10))
        stage.admit(staying, "b", Job("waiting", endings=(Retry(5), Done())), "next")
        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stage.dispatcher.drain([leaving], 60))
            await asyncio.sleep(6)
            stage.admit(staying, "c", "new")
        await stage.settle()
        assert stage.times() == {"leaving": 0, "waiting": 5, "next": 5, "new": 6}
        assert staying.watermark.position == 3


async def test_a_key_of_two_partitions_loses_only_what_is_left() -> None:
    leaving, staying = partition(1), partition(2)
    async with scene() as stage:
        stage.admit(leaving, "a", Job("waiting", endings=(Retry(60),)))
        stage.admit(staying, "a", "staying 1")
        stage.admit(leaving, "a", "must not overtake")
        stage.admit(staying, "a", Job("staying 2", takes=1))
        stage.admit(leaving, "a", "nor this")
        await asyncio.sleep(1)
        assert await stage.dispatcher.drain([leaving], 60) == []
        stage.admit(staying, "a", "staying 3")
        await stage.settle()
        assert stage.times() == {"waiting": 0, "staying 1": 1, "staying 2": 1, "staying 3": 2}
        assert staying.watermark.position == 3


@pytest.mark.parametrize("parked_first", [True, False])
async def test_draining_does_not_wait_for_another_partitions_retry(parked_first: bool) -> None:
    leaving, staying = partition(1), partition(2)
    async with scene() as stage:
        stage.admit(staying, "a", Job("waiting", takes=5, endings=(Retry(600), Done())))
        stage.admit(leaving, "a", "behind it")
        stage.admit(staying, "a", "last")
        await asyncio.sleep(6 if parked_first else 1)
        assert await stage.dispatcher.drain([leaving], 60) == []
        assert now() == (6 if parked_first else 1)
        await stage.settle()
        assert stage.times() == {"waiting": 605, "last": 610}


async def test_at_the_end_of_its_time_running_work_is_cancelled_and_queued_work_never_starts() -> None:
    assignment = partition()
    async with scene(concurrency=1) as stage:
        stage.admit(assignment, "a", Job("endless", takes=1e9), "queued")
        stage.admit(assignment, "b", "ready")
        await asyncio.sleep(1)
        (cut_off,) = await stage.dispatcher.drain([assignment], 30)
        assert (cut_off.offset, cut_off.key, cut_off.stage, cut_off.age, now()) == (0, "a", "running", 31, 31)
        await stage.settle()
        assert stage.happened("start", "cancelled") == ["endless", "endless"]
        assert assignment.watermark.position == 0


async def test_without_any_time_everything_is_cancelled() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("running", takes=1), "queued")
        await asyncio.sleep(0)
        assert len(await stage.dispatcher.drain([assignment], 0)) == 1
        await stage.settle()
        assert stage.happened("start", "cancelled") == ["running", "running"]


async def test_the_slot_of_a_cancelled_handler_is_used_again() -> None:
    leaving, staying = partition(1), partition(2)
    async with scene(concurrency=1) as stage:
        stage.admit(leaving, "a", Job("endless", takes=1e9))
        await asyncio.sleep(0)
        stage.admit(staying, "b", "other")
        await stage.dispatcher.drain([leaving], 30)
        await stage.settle()
        assert stage.times() == {"endless": 0, "other": 30}


async def test_cleaning_up_is_waited_for_but_not_for_ever() -> None:
    quick, slow = partition(1), partition(2)
    async with scene() as stage:
        stage.admit(quick, "a", Job("quick", takes=1e9, cleanup=2))
        await asyncio.sleep(0)
        await stage.dispatcher.drain([quick], 10)
        assert now() == 12
        stage.admit(slow, "b", Job("slow", takes=1e9, cleanup=600))
        await asyncio.sleep(0)
        await stage.dispatcher.drain([slow], 10)
        assert now() == 27
        await stage.settle()


async def test_a_partition_that_comes_back_waits_for_the_stale_handler_of_the_same_key() -> None:
    before, after = partition(epoch=1), partition(epoch=2)
    async with scene() as stage:
        stage.admit(before, "a", Job("stale", takes=1e9, cleanup=600), "stale too")
        await asyncio.sleep(0)
        await stage.dispatcher.drain([before], 10)
        stage.admit(after, "a", "again")
        stage.admit(after, "b", "other")
        await stage.settle()
        assert stage.times() == {"stale": 0, "other": 15, "again": 610}
        assert (before.watermark.position, after.watermark.position) == (0, 2)


@pytest.mark.parametrize(
    "ending", [Done(), PUBLISHED_AT_5, Retry(1), OSError()], ids=["done", "publishing", "retry", "raised"]
)
async def test_what_a_stale_handler_says_changes_nothing(ending: Ending) -> None:
    before, after = partition(epoch=1), partition(epoch=2)
    async with scene(concurrency=1) as stage:
        stage.admit(before, "a", Job("stale", takes=1e9, cleanup=60, when_cancelled=ending))
        await asyncio.sleep(0)
        await stage.dispatcher.drain([before], 10)
        stage.admit(after, "a", "again")
        await stage.settle()
        assert stage.times() == {"stale": 0, "again": 70}
        assert (before.watermark.position, stage.dispatcher.completed) == (0, 1)


async def test_an_acknowledgement_that_comes_too_late_completes_nothing_but_frees_the_key() -> None:
    before, after = partition(epoch=1), partition(epoch=2)
    async with scene() as stage:
        stage.admit(before, "a", Job("late", endings=(Done((Ack(60),)),)))
        await asyncio.sleep(1)
        (cut_off,) = await stage.dispatcher.drain([before], 10)
        assert cut_off.stage == "publishing"
        stage.admit(after, "a", "again")
        await stage.settle()
        assert stage.times() == {"late": 0, "again": 60}
        assert (before.watermark.position, stage.dispatcher.completed) == (0, 1)


async def test_stale_work_behind_a_running_handler_goes_at_once() -> None:
    leaving, staying = partition(1), partition(2)
    async with scene(concurrency=1) as stage:
        stage.admit(staying, "a", Job("slow", takes=20))
        stage.admit(leaving, "a", *map(str, range(100)))
        stage.admit(staying, "b", Job("endless", takes=1e4))
        assert await stage.dispatcher.drain([leaving], 10) == []
        assert [each.key for each in stage.dispatcher.unfinished()] == ["a", "b"]
        assert (now(), stage.dispatcher.outstanding, leaving.outstanding) == (0, 2, 0)


async def test_stale_work_gives_back_the_slot_of_its_group() -> None:
    before, after = partition(epoch=1), partition(epoch=2)
    async with scene(concurrency=2, per_group=(("docker", 1),), group_of=lambda work: "docker") as stage:
        stage.admit(before, "a", Job("endless", takes=1e9))
        stage.admit(before, "b", "ready")
        await asyncio.sleep(0)
        await stage.dispatcher.drain([before], 1)
        stage.admit(after, "c", "new")
        await stage.settle()
        assert stage.happened() == ["endless", "new"]


async def test_two_drains_at_once_do_not_disturb_each_other() -> None:
    one, both, other = partition(1), partition(2), partition(3)
    async with scene() as stage:
        for seconds, assignment in ((5, one), (10, both), (15, other)):
            stage.admit(assignment, assignment, Job(str(assignment), takes=seconds))
        await asyncio.sleep(1)
        results = await asyncio.gather(
            stage.dispatcher.drain([one, both], 60), stage.dispatcher.drain([both, other], 60)
        )
        assert (results, now()) == ([[], []], 15)


async def test_a_handler_that_cleans_up_is_not_cancelled_again_by_a_drain_at_the_same_time() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("endless", takes=1e9, cleanup=4))
        await asyncio.sleep(0)
        await asyncio.gather(stage.dispatcher.drain([assignment], 10), stage.dispatcher.drain([assignment], 12))
        assert stage.times("cancelled") == {"endless": 14}


async def test_a_drain_that_is_cancelled_still_closes_its_partitions_and_cancels_their_handlers() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("endless", takes=1e9), "queued")
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await stage.dispatcher.drain([assignment], 60)
        assert assignment.closed
        await stage.settle()
        assert stage.happened("start", "cancelled") == ["endless", "endless"]


async def test_a_partition_goes_back_and_forth_without_losing_or_repeating_what_was_done() -> None:
    async with scene() as stage:
        known: OffsetMap | None = None
        for epoch in range(1, 20):
            assignment = partition(epoch=epoch)
            if known is not None:
                assignment.watermark.resume(known)
            for offset in range(10):
                if not assignment.watermark.is_done(offset):
                    stage.dispatcher.admit(assignment, offset, [(offset % 3, Job(str(offset), takes=1 + offset % 2))])
            await asyncio.sleep(0.5)
            assert await stage.dispatcher.drain([assignment], 5) == []
            known = assignment.watermark.snapshot()
        assert known == OffsetMap(10, 10, [])
        assert sorted(stage.happened()) == [str(number) for number in range(10)]
