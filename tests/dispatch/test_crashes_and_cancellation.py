"""The end of the dispatcher, forced or not, with work in every stage; and defects that end it."""

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest

from consumer.dispatch import Assignment, Dispatcher, Done, Retry, Verdict, Work
from tests.dispatch.scene import Ack, Ending, Job, Scene, now, partition, scene


async def work_in_every_stage(stage: Scene, assignment: Assignment, **running: Any) -> None:
    stage.admit(assignment, "a", Job("parked", endings=(Retry(60), Done())), "queued")
    stage.admit(assignment, "b", Job("publishing", endings=(Done((Ack(60),)),)))
    stage.admit(assignment, "c", Job("running", takes=1e9, **running))
    stage.admit(assignment, "d", "ready")
    await asyncio.sleep(1)


async def test_leaving_ends_at_once_whatever_is_in_flight() -> None:
    assignment = partition()
    async with scene(concurrency=1) as stage:
        await work_in_every_stage(stage, assignment)
    assert now() == 1
    assert stage.happened("cancelled") == ["running"]
    await asyncio.sleep(1e4)
    assert "ready" not in stage.happened()
    assert "queued" not in stage.happened()
    assert assignment.watermark.position == 0


async def test_what_was_cut_off_is_told_afterwards() -> None:
    async with scene(concurrency=1) as stage:
        await work_in_every_stage(stage, partition())
    assert sorted((each.key, each.stage) for each in stage.dispatcher.unfinished()) == [
        ("a", "parked"),
        ("a", "queued"),
        ("b", "publishing"),
        ("c", "running"),
        ("d", "ready"),
    ]


async def test_leaving_waits_for_handlers_to_clean_up() -> None:
    async with scene(concurrency=1) as stage:
        await work_in_every_stage(stage, partition(), cleanup=20)
    assert now() == 21


@pytest.mark.parametrize(
    "ending", [Done(), Done((Ack(1),)), Retry(1), OSError()], ids=["done", "publishing", "retry", "raised"]
)
async def test_a_handler_that_swallows_its_cancellation_cannot_keep_the_dispatcher_from_ending(ending: Ending) -> None:
    async with scene(concurrency=1) as stage:
        await work_in_every_stage(stage, partition(), when_cancelled=ending)
    assert now() == 1
    await asyncio.sleep(1e4)
    assert "ready" not in stage.happened()


async def test_a_worker_whose_handler_swallowed_a_cancellation_is_replaced() -> None:
    """Its task would stay marked as cancelled, which confuses task groups and timeouts in later handlers."""
    leaving, staying = partition(1), partition(2)

    async with scene(concurrency=1) as stage:
        stage.admit(leaving, "a", Job("stubborn", takes=1e9, when_cancelled=Done()))
        stage.admit(staying, "b", "other")
        await asyncio.sleep(0)
        await stage.dispatcher.drain([leaving], 10)
        assert now() == 10
        await stage.settle()
        assert stage.happened() == ["stubborn", "other"]


@pytest.mark.parametrize("woken", [False, True], ids=["idle", "on its way to new work"])
async def test_a_worker_that_somebody_else_cancels_takes_no_work_with_it(woken: bool) -> None:
    async with scene(concurrency=1) as stage:
        stage.admit(partition(), "a", "first")
        await asyncio.sleep(1)
        (worker,) = (task for task in asyncio.all_tasks() if task.get_name().startswith("lane-worker"))
        if woken:
            stage.admit(partition(), "b", "second")
            worker.cancel()
        else:
            worker.cancel()
            stage.admit(partition(), "b", "second")
        await stage.settle()
        assert stage.happened() == ["first", "second"]


async def test_publications_acknowledged_after_the_end_still_count() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("publishing", endings=(Done((Ack(60),)),)), "queued")
        await asyncio.sleep(1)
    await asyncio.sleep(60)
    assert (assignment.watermark.position, stage.happened()) == (1, ["publishing"])


async def test_an_error_in_its_body_ends_the_dispatcher() -> None:
    async def program() -> None:
        async with scene(concurrency=1) as stage:
            await work_in_every_stage(stage, partition())
            raise LookupError("the program's own")

    with pytest.raises(ExceptionGroup) as raised:
        await program()
    assert raised.group_contains(LookupError, match="the program's own")
    assert now() == 1


async def test_a_defect_in_publishing_ends_the_dispatcher_and_is_not_hidden() -> None:
    async def handle(work: Work[str]) -> Verdict[str]:
        await asyncio.sleep(0 if work.item == "publishing" else 1e9)
        return Done(("something",))

    def publish(assignment: Assignment, publications: Sequence[str]) -> NoReturn:
        raise RuntimeError("never connected")

    async def program() -> None:
        async with Dispatcher(handle, publish) as dispatcher:
            dispatcher.admit(partition(), 0, [("a", "endless")])
            dispatcher.admit(partition(), 1, [("b", "publishing"), ("b", "next")])
            await asyncio.sleep(1e9)

    with pytest.raises(ExceptionGroup) as raised:
        await program()
    assert raised.group_contains(RuntimeError, match="never connected")
    assert now() == 0


async def test_being_killed_repeats_only_what_was_not_committed() -> None:
    before, after = partition(epoch=1), partition(epoch=2)
    async with scene() as first:
        first.admit(before, "a", *(Job(str(number), takes=1) for number in range(10)))
        await asyncio.sleep(4.5)
        committed = before.watermark.position
    assert committed == 4
    async with scene() as second:
        for offset in range(committed, 10):
            second.dispatcher.admit(after, offset, [("a", Job(str(offset), takes=1))])
        await second.settle()
    assert second.happened("end") == ["4", "5", "6", "7", "8", "9"]
    assert after.watermark.position == 10
