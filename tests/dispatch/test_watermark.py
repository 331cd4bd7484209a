"""What may be committed: never past anything that is not done."""

import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from consumer.dispatch import Done, Watermark
from tests.dispatch.scene import Ack, Job, partition, scene


class NaiveWatermark:
    """The same by definition, however slow."""

    def __init__(self) -> None:
        self.admitted: set[int] = set()
        self.unfinished: set[int] = set()

    @property
    def position(self) -> int | None:
        if self.unfinished:
            return min(self.unfinished)
        return max(self.admitted) + 1 if self.admitted else None


def admitted(*offsets: int) -> Watermark:
    watermark = Watermark()
    for offset in offsets:
        watermark.admit(offset)
    return watermark


def test_nothing_is_to_commit_before_anything_was_admitted() -> None:
    assert Watermark().position is None


def test_the_position_is_the_lowest_offset_not_done() -> None:
    watermark = admitted(7, 8, 9)
    assert watermark.position == 7
    watermark.complete(8)
    assert watermark.position == 7
    watermark.complete(7)
    assert watermark.position == 9


def test_when_all_is_done_the_position_is_the_next_offset() -> None:
    watermark = admitted(7, 8)
    watermark.complete(8)
    watermark.complete(7)
    assert (watermark.position, watermark.pending) == (9, 0)


def test_a_gap_is_passed_once_it_is_known_to_hold_no_record() -> None:
    watermark = admitted(3)
    watermark.complete(3)
    assert watermark.position == 4
    watermark.admit(1000)
    assert watermark.position == 1000


def test_what_was_done_after_an_unfinished_offset_costs_no_memory() -> None:
    watermark = admitted(0)
    for offset in range(1, 100_000):
        watermark.admit(offset)
        watermark.complete(offset)
    assert (watermark.position, watermark.pending) == (0, 1)
    watermark.complete(0)
    assert watermark.position == 100_000


def test_an_offset_that_came_twice_does_not_hold_the_position_for_ever() -> None:
    watermark = admitted(4, 5, 5)
    for offset in (5, 5, 4):
        watermark.complete(offset)
    assert watermark.position == 6


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=60), st.randoms(use_true_random=False))
def test_it_agrees_with_the_definition_whatever_the_gaps_and_the_order(
    steps: list[tuple[int, float]], random: Random
) -> None:
    watermark, model, offset = Watermark(), NaiveWatermark(), -1
    for gap, done_share in steps:
        offset += gap
        watermark.admit(offset)
        model.admitted.add(offset)
        model.unfinished.add(offset)
        assert (watermark.position, watermark.pending) == (model.position, len(model.unfinished))
        for finished in random.sample(sorted(model.unfinished), int(done_share * len(model.unfinished))):
            watermark.complete(finished)
            model.unfinished.remove(finished)
            assert (watermark.position, watermark.pending) == (model.position, len(model.unfinished))


async def test_a_record_is_done_when_all_of_its_parts_are() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit_record(assignment, ("a", Job("quick", takes=1)), ("b", Job("slow", takes=5)), ("c", "at once"))
        await asyncio.sleep(4)
        assert assignment.watermark.position == 0
        assert (stage.dispatcher.outstanding, stage.dispatcher.completed) == (1, 0)
        await stage.settle()
        assert assignment.watermark.position == 1
        assert (stage.dispatcher.outstanding, stage.dispatcher.completed) == (0, 1)


async def test_a_record_without_parts_is_done_at_once_but_passes_nothing_unfinished() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit_record(assignment)
        assert (assignment.watermark.position, stage.dispatcher.completed) == (1, 1)
        stage.admit(assignment, "a", Job("slow", takes=5))
        stage.admit_record(assignment)
        assert (assignment.watermark.position, stage.dispatcher.completed) == (1, 2)
        await stage.settle()
        assert (assignment.watermark.position, stage.dispatcher.completed) == (3, 3)


async def test_a_record_is_not_done_before_its_publications_were_acknowledged() -> None:
    assignment = partition()
    async with scene() as stage:
        stage.admit(assignment, "a", Job("told", endings=(Done((Ack(1), Ack(5))),)))
        await asyncio.sleep(4)
        assert assignment.watermark.position == 0
        await stage.settle()
        assert assignment.watermark.position == 1


async def test_partitions_have_watermarks_of_their_own() -> None:
    one, other = partition(1), partition(2)
    async with scene() as stage:
        stage.admit(one, "a", Job("slow", takes=5))
        stage.admit(other, "b", "quick", "quick too")
        await asyncio.sleep(1)
        assert (one.watermark.position, other.watermark.position) == (0, 2)
