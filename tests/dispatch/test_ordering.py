"""Serial in one key, concurrent across keys."""

import asyncio

from consumer.dispatch import Done, Retry
from tests.dispatch.scene import Ack, Job, partition, scene


async def test_items_of_one_key_run_one_after_the_other_in_the_order_of_admission() -> None:
    async with scene() as stage:
        stage.admit(partition(), "a", *(Job(str(number), takes=5 - number) for number in range(5)))
        await stage.settle()
        expected = [name for number in range(5) for name in (str(number), str(number))]
        assert stage.happened("start", "end") == expected


async def test_other_keys_do_not_wait_for_a_slow_one() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("slow", takes=100), "after slow")
        stage.admit(assignment, "b", "other")
        await stage.settle()
        assert stage.times() == {"slow": 0, "other": 0, "after slow": 100}


async def test_items_of_several_partitions_with_one_key_share_its_lane() -> None:
    async with scene() as stage:
        stage.admit(partition(1), "a", Job("first", takes=2))
        stage.admit(partition(2), "a", Job("second", takes=1))
        stage.admit(partition(1), "a", Job("third"))
        await stage.settle()
        assert stage.times() == {"first": 0, "second": 2, "third": 3}


async def test_parts_of_one_record_with_the_same_key_run_in_their_order() -> None:
    async with scene() as stage:
        stage.admit_record(partition(), ("a", Job("first", takes=1)), ("b", "aside"), ("a", "second"))
        await stage.settle()
        assert stage.times() == {"first": 0, "aside": 0, "second": 1}


async def test_a_key_is_held_until_its_publications_were_acknowledged() -> None:
    async with scene() as stage:
        stage.admit(partition(), "a", Job("first", endings=(Done((Ack(3),)),)), "second")
        await stage.settle()
        assert stage.times() == {"first": 0, "second": 3}


async def test_a_key_is_held_while_its_head_waits_to_be_tried_again() -> None:
    async with scene() as stage:
        stage.admit(partition(), "a", Job("first", endings=(Retry(60), Done())), "second")
        await stage.settle()
        assert [(time, name) for time, event, name in stage.log if event == "start"] == [
            (0, "first"),
            (60, "first"),
            (60, "second"),
        ]


async def test_neither_publishing_nor_waiting_holds_a_slot() -> None:
    assignment = partition()
    async with scene(concurrency=1) as stage:
        stage.admit(assignment, "a", Job("publishing", endings=(Done((Ack(100),)),)))
        stage.admit(assignment, "b", Job("waiting", endings=(Retry(100), Done())))
        stage.admit(assignment, "c", Job("other", takes=1))
        await asyncio.sleep(50)
        assert stage.times("end") == {"publishing": 0, "waiting": 0, "other": 1}


async def test_a_key_with_much_to_do_takes_turns_with_the_others() -> None:
    assignment = partition()
    async with scene(concurrency=1) as stage:
        stage.admit(assignment, "busy", *(Job(f"busy {number}", takes=1) for number in range(100)))
        stage.admit(assignment, "calm", Job("calm", takes=1))
        await stage.settle()
        assert stage.times()["calm"] == 1


async def test_a_key_that_comes_back_after_its_lane_emptied_starts_anew() -> None:
    assignment = partition()
    async with scene() as stage:
        for round_ in range(3):
            stage.admit(assignment, "a", f"round {round_}")
            await stage.settle()
            assert stage.dispatcher.unfinished() == []
        assert stage.happened() == ["round 0", "round 1", "round 2"]


async def test_an_item_admitted_while_the_last_one_of_its_lane_is_published_is_not_lost() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("first", endings=(Done((Ack(1),)),)))
        await asyncio.sleep(1)
        stage.admit(assignment, "a", "second")
        await stage.settle()
        assert stage.happened() == ["first", "second"]


async def test_handlers_that_never_suspend_leave_time_for_the_rest_of_the_program() -> None:
    async with scene(concurrency=2) as stage:
        for number in range(2000):
            stage.admit(partition(), number, Job(str(number), takes=None))
        for turn in range(6):
            assert turn == 0 or 0 < stage.dispatcher.outstanding < 2000
            await asyncio.sleep(0)
        await stage.settle()


async def test_unfinished_tells_where_everything_is_oldest_first() -> None:
    assignment = partition(3)
    async with scene(concurrency=1) as stage:
        stage.admit(assignment, "a", Job("parked", endings=(Retry(60), Done())), "queued")
        await asyncio.sleep(1)
        stage.admit(assignment, "b", Job("publishing", endings=(Done((Ack(60),)),)))
        await asyncio.sleep(1)
        stage.admit(assignment, "c", Job("running", takes=60))
        stage.admit(assignment, "d", "ready")
        await asyncio.sleep(1)
        unfinished = stage.dispatcher.unfinished()
        assert [(each.offset, each.key, each.stage, each.attempt, each.age) for each in unfinished] == [
            (0, "a", "parked", 1, 3),
            (1, "a", "queued", 0, 3),
            (2, "b", "publishing", 1, 2),
            (3, "c", "running", 1, 1),
            (4, "d", "ready", 0, 1),
        ]
        assert {(each.topic, each.partition) for each in unfinished} == {("reservations", 3)}
        assert stage.dispatcher.outstanding == 5
        await stage.settle()
        assert stage.dispatcher.unfinished() == []
