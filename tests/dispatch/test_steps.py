"""Work in steps: what the first one publishes is acknowledged before the next begins, wherever that is done."""

import asyncio
import random

from consumer.dispatch import BreakerPolicy, Continue, Done, Outage, Work
from tests.dispatch.scene import Ack, Job, now, partition, scene

STEP = Continue((Ack(5),))


async def test_the_next_step_begins_when_all_was_acknowledged_and_only_the_last_one_is_done() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("work", takes=1, endings=(STEP, STEP, Done((Ack(5),)))), "behind")
        await asyncio.sleep(17.5)
        assert [time for time, event, name in stage.log if (event, name) == ("start", "work")] == [0, 6, 12]
        assert stage.attempts == [("work", 1, 0), ("work", 1, 0), ("work", 1, 0)]
        assert assignment.watermark.position == 0
        await asyncio.sleep(1)
        assert (stage.happened()[-1], assignment.watermark.position) == ("behind", 2)
        await stage.settle()


async def test_a_step_without_publications_is_taken_at_once() -> None:
    async with scene() as stage:
        stage.admit(partition(), "a", Job("work", endings=(Continue(()), Done())))
        await asyncio.sleep(0)
        await stage.settle()
        assert stage.happened() == ["work", "work"]


async def test_a_step_that_could_not_be_published_is_taken_again() -> None:
    async with scene() as stage:
        lost = Continue((Ack(1, RuntimeError("no broker")),))
        stage.admit(partition(), "a", Job("work", endings=(lost, STEP, Done())))
        await stage.settle()
        assert stage.happened() == ["work"] * 3
        assert [name for name, _ in stage.crashes] == ["work"]


async def test_each_step_counts_against_the_group_it_needs() -> None:
    asked: list[str | None] = []

    def group_of(work: Work[Job]) -> str | None:
        asked.append("docker" if asked else None)
        return asked[-1]

    async with scene(group_of=group_of) as stage:
        stage.admit(partition(), "a", Job("work", endings=(STEP, Done())))
        await stage.settle()
        assert asked == [None, "docker"]
        assert stage.most_running["docker"] == 1


async def test_a_partition_that_is_left_waits_for_the_step_and_not_for_the_next() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("work", takes=1, endings=(STEP, Done())))
        await asyncio.sleep(2)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert (now(), stage.happened(), assignment.watermark.position) == (6, ["work"], 0)
        assert stage.dispatcher.outstanding == 0


async def test_a_step_of_a_partition_that_was_left_meanwhile_is_not_followed() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("work", endings=(STEP, Done())))
        await asyncio.sleep(1)
        await stage.dispatcher.drain([assignment], 1)
        await stage.settle()
        assert stage.happened() == ["work"]


async def test_what_waits_for_a_backend_that_stopped_answering_goes_to_another() -> None:
    assignment = partition()

    def group_of(work: Work[Job]) -> str | None:
        return "other" if work.item.name != "bound" and stage.dispatcher.is_shut("first") else "first"

    once = BreakerPolicy(threshold=1, open_for=100.0, rng=random.Random(1))  # noqa: S311 - the same each time
    async with scene(group_of=group_of, breakers=once, per_group=(("first", 1),)) as stage:
        stage.admit(assignment, "a", Job("free", takes=1, endings=(Outage(), Done())))
        stage.admit(assignment, "b", Job("bound"))
        stage.admit(assignment, "c", "free too")
        await asyncio.sleep(3)
        assert sorted(stage.happened("end")) == ["free", "free", "free too"]
        assert stage.times("end")["free too"] == 1
        assert not stage.dispatcher.is_shut("other")
        await stage.settle()
        assert stage.happened("end")[-1] == "bound"


async def test_work_without_end_keeps_nobody_busy() -> None:
    async with scene() as stage:
        stage.admit(partition(), "a", Job("work", endings=((Continue(()),) * 20 + (Done(),))), "behind")
        await stage.settle()
        assert [name for name, _ in stage.crashes] == ["work", "work"]
        assert stage.happened() == ["work"] * 21 + ["behind"]
        assert now() >= 1


async def test_a_record_of_which_one_part_has_a_step_to_take_is_finished_before_its_partition_is_left() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit_record(assignment, ("a", Job("one", takes=1, endings=(STEP, Done()))), ("b", Job("two", takes=1)))
        await asyncio.sleep(2)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert stage.happened() == ["one", "two", "one"]
        assert assignment.watermark.position == 1
