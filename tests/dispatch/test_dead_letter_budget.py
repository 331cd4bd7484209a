"""Dead letters: a burst passes, a flood is held, and what is held comes out in order as successes and time allow."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.dispatch import Assignment, DeadLetterBudget, Done
from consumer.dispatch.allowance import Allowance
from tests.dispatch.scene import Ack, Job, Scene, now, partition, scene

LETTER = Done((Ack(0),), dead_letters=1)
SILENT_LETTER: Done[Ack] = Done(dead_letters=1)


def failing(name: str, letters: int = 1) -> Job:
    return Job(name, endings=(Done((Ack(0),), dead_letters=letters),))


def flood(stage: Scene, to: Assignment, count: int) -> None:
    """So many records that fail, each of a key of its own."""
    for number in range(count):
        stage.admit(to, ("flood", number), failing(f"flood {number}"))


# The tokens


def test_what_there_is_at_the_start_is_spent_and_then_there_is_nothing() -> None:
    allowance = Allowance(DeadLetterBudget(burst=3, per_second=0.1))
    assert [allowance.take(1, 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert allowance.wait(1) == pytest.approx(10.0)


def test_time_earns_tokens_but_never_more_than_the_burst() -> None:
    allowance = Allowance(DeadLetterBudget(burst=2, per_second=0.1))
    assert allowance.take(2, 0.0)
    assert [allowance.take(1, 9.0), allowance.take(1, 10.0), allowance.take(1, 10.0)] == [False, True, False]
    assert [allowance.take(1, 1e6) for _ in range(3)] == [True, True, False]


def test_successes_earn_tokens_but_never_more_than_the_burst() -> None:
    allowance = Allowance(DeadLetterBudget(burst=2, per_success=0.1))
    assert allowance.take(2, 0.0)
    for _ in range(9):
        allowance.earn()
    assert not allowance.take(1, 0.0)
    allowance.earn()
    assert allowance.take(1, 0.0)
    for _ in range(1000):
        allowance.earn()
    assert [allowance.take(1, 0.0) for _ in range(3)] == [True, True, False]


def test_what_is_refused_costs_nothing() -> None:
    allowance = Allowance(DeadLetterBudget(burst=3))
    assert allowance.take(1, 0.0)
    assert [allowance.take(3, 0.0), allowance.take(2, 0.0)] == [False, True]


def test_more_than_can_ever_be_saved_up_costs_all_there_is() -> None:
    allowance = Allowance(DeadLetterBudget(burst=3, per_second=1.0))
    assert [allowance.take(100, 0.0), allowance.take(100, 2.0)] == [True, False]
    assert allowance.wait(100) == pytest.approx(1.0)
    assert allowance.take(100, 3.0)


amounts = st.integers(1, 5)


@given(
    st.integers(1, 20),
    st.floats(0.001, 10),
    st.lists(st.tuples(st.floats(0, 1000), amounts | st.none()), max_size=50),
    st.sampled_from([0.0, 1e9]),
)
def test_never_more_than_was_earned_and_after_the_wait_it_is_enough(
    burst: int, per_second: float, steps: list[tuple[float, int | None]], now: float
) -> None:
    """A step is a pause, and then letters or (None) a success."""
    allowance = Allowance(DeadLetterBudget(burst, per_success=0.5, per_second=per_second))
    begun, earned, paid = now, float(burst), 0
    for pause, letters in steps:
        now += pause
        if letters is None:
            allowance.earn()
            earned += 0.5
        elif allowance.take(letters, now):
            paid += min(letters, burst)
        else:
            now += allowance.wait(letters)
            assert allowance.take(letters, now)
            paid += min(letters, burst)
    assert paid <= earned + (now - begun) * per_second + 1e-3


# With work


async def test_a_burst_passes() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=10)) as stage:
        flood(stage, assignment, 10)
        await asyncio.sleep(0.001)
        assert (stage.dispatcher.held, stage.dispatcher.completed, assignment.watermark.position) == (0, 10, 10)
        assert stage.dispatcher.has_room(assignment)


async def test_a_flood_is_held_and_nothing_more_is_taken_in_of_any_partition() -> None:
    flooded, other = partition(1), partition(2)
    async with scene(dead_letters=DeadLetterBudget(burst=10, per_second=0.1)) as stage:
        flood(stage, flooded, 15)
        await asyncio.sleep(0.001)
        assert (stage.dispatcher.held, stage.dispatcher.completed, flooded.watermark.position) == (5, 10, 10)
        assert not stage.dispatcher.has_room(flooded)
        assert not stage.dispatcher.has_room(other)
        assert {(item.stage, item.offset) for item in stage.dispatcher.unfinished()} == {
            ("held", offset) for offset in range(10, 15)
        }
        await stage.settle()
        assert stage.dispatcher.has_room(flooded)
        assert stage.dispatcher.has_room(other)


async def test_what_is_held_is_released_as_time_goes_by_oldest_first() -> None:
    assignment = partition()
    positions = {}
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.1)) as stage:
        flood(stage, assignment, 4)
        for moment in (1, 9, 11, 19, 21, 29, 31):
            await asyncio.sleep(moment - now())
            positions[moment] = (assignment.watermark.position, stage.dispatcher.held)
    assert positions == {1: (1, 3), 9: (1, 3), 11: (2, 2), 19: (2, 2), 21: (3, 1), 29: (3, 1), 31: (4, 0)}


async def test_successes_release_what_is_held_at_once() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_success=0.5, per_second=1e-6)) as stage:
        flood(stage, assignment, 3)
        await asyncio.sleep(1)
        seen = []
        for number in range(4):
            stage.admit(assignment, number, f"fine {number}")
            await asyncio.sleep(1)
            seen.append((stage.dispatcher.held, stage.dispatcher.completed))
        assert seen == [(2, 2), (1, 4), (1, 5), (0, 7)]
        await asyncio.sleep(1)
        assert assignment.watermark.position == 7


async def test_successes_go_on_while_letters_are_held() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_success=0, per_second=1e-3)) as stage:
        flood(stage, assignment, 3)
        stage.admit(assignment, "fine", *(f"fine {number}" for number in range(100)))
        await asyncio.sleep(1)
        assert (stage.dispatcher.held, stage.dispatcher.completed) == (2, 101)
        await stage.settle()


async def test_where_time_earns_nothing_successes_do() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_success=0.5, per_second=0)) as stage:
        flood(stage, assignment, 3)
        await asyncio.sleep(1e6)
        assert stage.dispatcher.held == 2
        stage.admit(assignment, "fine", *(f"fine {number}" for number in range(4)))
        await asyncio.sleep(1)
        assert (stage.dispatcher.held, assignment.watermark.position) == (0, 7)


async def test_a_letter_does_not_overtake_one_that_is_held_although_it_is_cheaper() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=10, per_success=0, per_second=0.1)) as stage:
        stage.admit(assignment, "a", failing("paid", 8))
        stage.admit(assignment, "b", failing("dear", 5))
        stage.admit(assignment, "c", failing("cheap", 1))
        await asyncio.sleep(29)
        assert (stage.dispatcher.completed, stage.dispatcher.held) == (1, 2)
        await asyncio.sleep(2)
        assert (stage.dispatcher.completed, stage.dispatcher.held, assignment.watermark.position) == (2, 1, 2)
        await stage.settle()


async def test_the_lane_of_a_held_letter_stays_held_and_its_slot_does_not() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_success=0, per_second=0.1), concurrency=1) as stage:
        flood(stage, assignment, 1)
        stage.admit(assignment, "a", failing("held"), "behind it")
        stage.admit(assignment, "b", "other")
        await asyncio.sleep(1)
        assert stage.happened() == ["flood 0", "held", "other"]
        await stage.settle()
        assert stage.happened() == ["flood 0", "held", "other", "behind it"]
        assert stage.times()["behind it"] == pytest.approx(10)


async def test_letters_of_one_key_come_out_in_order() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.1)) as stage:
        for key in "ab":
            stage.admit(assignment, key, *(failing(f"{key}{number}") for number in range(3)))
        await stage.settle()
        assert [name for name in stage.happened() if name[0] == "a"] == ["a0", "a1", "a2"]
        assert [name for name in stage.happened() if name[0] == "b"] == ["b0", "b1", "b2"]
        assert (len(stage.happened()), assignment.watermark.position) == (6, 6)


async def test_more_letters_in_one_outcome_than_the_burst_are_let_through_when_all_is_saved_up() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=5, per_second=0.1)) as stage:
        stage.admit(assignment, "a", failing("huge", 1000))
        await asyncio.sleep(1)
        assert (assignment.watermark.position, stage.dispatcher.held) == (1, 0)
        stage.admit(assignment, "a", failing("huge again", 1000))
        await asyncio.sleep(48)
        assert (assignment.watermark.position, stage.dispatcher.held) == (1, 1)
        await asyncio.sleep(2)
        assert (assignment.watermark.position, stage.dispatcher.held) == (2, 0)


async def test_a_held_outcome_with_nothing_to_publish_is_done_when_it_is_paid_for() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.1)) as stage:
        stage.admit(assignment, "a", *(Job(str(number), endings=(SILENT_LETTER,)) for number in range(3)))
        await asyncio.sleep(15)
        assert assignment.watermark.position == 2
        await stage.settle()
        assert assignment.watermark.position == 3


async def test_waiting_for_room_ends_when_the_last_letter_was_let_go() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.1)) as stage:
        flood(stage, assignment, 3)
        await asyncio.sleep(0.001)
        await stage.dispatcher.wait_for_room(100)
        assert now() == pytest.approx(20)
        assert stage.dispatcher.has_room(assignment)


async def test_a_letter_that_could_not_be_published_is_paid_for_again() -> None:
    assignment = partition()
    endings = (Done((Ack(0, OSError("no broker")),), dead_letters=1), LETTER)
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.01)) as stage:
        stage.admit(assignment, "a", Job("unheard", endings=endings))
        await asyncio.sleep(5)
        assert (stage.happened(), stage.dispatcher.held) == (["unheard", "unheard"], 1)
        await stage.settle()
        assert assignment.watermark.position == 1


async def test_what_is_held_is_given_up_when_its_partition_is_left_and_the_rest_is_not() -> None:
    leaving, staying = partition(1), partition(2)
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.001)) as stage:
        flood(stage, staying, 1)
        stage.admit(leaving, "a", failing("given up"), "behind it")
        stage.admit(staying, "b", failing("kept"), "behind that")
        await asyncio.sleep(1)
        assert stage.dispatcher.held == 2
        assert await stage.dispatcher.drain([leaving], 60) == []
        assert (now(), stage.dispatcher.held, leaving.outstanding) == (1, 1, 0)
        assert (leaving.watermark.position, staying.watermark.position) == (0, 1)
        assert not stage.dispatcher.has_room(staying)
        await stage.settle()
        assert (leaving.watermark.position, staying.watermark.position) == (0, 3)
        assert "behind it" not in stage.happened()


async def test_there_is_room_again_when_all_that_was_held_is_given_up() -> None:
    leaving, staying = partition(1), partition(2)
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.001)) as stage:
        flood(stage, leaving, 3)
        await asyncio.sleep(1)
        assert not stage.dispatcher.has_room(staying)
        await stage.dispatcher.drain([leaving], 60)
        assert stage.dispatcher.has_room(staying)
        await stage.dispatcher.wait_for_room(100)
        assert now() == 1


async def test_an_outcome_that_would_be_held_while_its_partition_is_left_is_given_up() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.001)) as stage:
        flood(stage, assignment, 1)
        stage.admit(assignment, "a", Job("late", takes=5, endings=(LETTER,)), "behind it")
        await asyncio.sleep(1)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert (now(), assignment.watermark.position, stage.dispatcher.held) == (5, 1, 0)


async def test_a_letter_that_the_budget_allows_for_is_written_while_its_partition_is_left() -> None:
    assignment = partition()
    async with scene(dead_letters=DeadLetterBudget(burst=1)) as stage:
        stage.admit(assignment, "a", Job("late", takes=5, endings=(LETTER,)))
        await asyncio.sleep(1)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert assignment.watermark.position == 1


async def test_a_partition_that_comes_back_repeats_what_was_held() -> None:
    first, second = partition(epoch=1), partition(epoch=2)
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.01)) as stage:
        flood(stage, first, 1)
        stage.admit(first, "a", failing("held"))
        await asyncio.sleep(1)
        await stage.dispatcher.drain([first], 60)
        stage.admit(second, "a", failing("held"), "behind it")
        await stage.settle()
        assert stage.happened() == ["flood 0", "held", "held", "behind it"]
        assert (first.watermark.position, second.watermark.position) == (1, 2)


async def test_a_dispatcher_that_ends_while_letters_are_held_leaves_no_timers() -> None:
    async with scene(dead_letters=DeadLetterBudget(burst=1, per_second=0.001)) as stage:
        flood(stage, partition(), 10)
        await asyncio.sleep(1)
        assert stage.dispatcher.held == 9
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert [timer for timer in scheduled if not timer.cancelled()] == []


@pytest.mark.parametrize("seed", range(10))
async def test_in_the_end_every_letter_was_written_once_and_in_the_order_of_its_key(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - the same story every time
    assignment = partition()
    budget = DeadLetterBudget(burst=draw.choice([1, 3, 10]), per_success=draw.choice([0, 0.1]), per_second=1.0)
    async with scene(
        dead_letters=budget, concurrency=draw.choice([1, 8]), max_unacknowledged=draw.choice([1, 100])
    ) as stage:
        for number in range(150):
            key, letters = draw.randrange(20), draw.choice([0, 0, 1, 1, 2, 20])
            publications = draw.choice([(), (Ack(draw.random()),)])
            stage.admit(
                assignment, key, Job(f"{key}: {number}", takes=draw.random(), endings=(Done(publications, letters),))
            )
        await stage.settle()
        assert assignment.watermark.position == 150
        assert len(stage.happened()) == len(set(stage.happened())) == 150
        for key in range(20):
            order = [int(name.split()[-1]) for name in stage.happened() if name.startswith(f"{key}:")]
            assert order == sorted(order)
