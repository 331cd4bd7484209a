"""What may be committed: never past anything that is not done."""

import asyncio
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from consumer.dispatch import Done, OffsetMap, Watermark
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


# What an earlier owner had done


def resumed(position: int, end: int, *pending: int) -> Watermark:
    watermark = Watermark()
    watermark.resume(OffsetMap(position, end, [position, *pending]))
    return watermark


def test_before_anything_was_admitted_there_is_nothing_to_remember() -> None:
    watermark = Watermark()
    assert (watermark.snapshot(), watermark.changes, watermark.knows(0), watermark.is_done(0)) == (
        None,
        0,
        False,
        False,
    )


def test_a_snapshot_tells_what_is_pending_and_where_it_ends() -> None:
    watermark = admitted(7, 8, 9, 12)
    watermark.complete(8)
    assert watermark.snapshot() == OffsetMap(7, 13, [7, 9, 12])
    for offset in (7, 9, 12):
        watermark.complete(offset)
    assert watermark.snapshot() == OffsetMap(13, 13, [])


def test_a_snapshot_is_of_its_moment() -> None:
    watermark = admitted(7, 8)
    known = watermark.snapshot()
    watermark.complete(7)
    assert known == OffsetMap(7, 9, [7, 8])


def test_it_goes_on_where_the_earlier_owner_stopped() -> None:
    watermark = resumed(5, 10, 8)
    assert (watermark.position, watermark.pending, watermark.changes) == (5, 0, 0)
    assert watermark.snapshot() == OffsetMap(5, 10, [5, 8])
    assert [offset for offset in range(3, 12) if watermark.is_done(offset)] == [3, 4, 6, 7, 9]
    assert [offset for offset in range(3, 12) if watermark.knows(offset)] == [3, 4, 5, 6, 7, 8, 9]


def test_what_the_earlier_owner_left_is_done_once_it_was_delivered_and_completed() -> None:
    watermark = resumed(5, 10, 8)
    watermark.admit(5)
    assert watermark.pending == 1
    watermark.complete(5)
    assert (watermark.position, watermark.pending) == (8, 0)
    watermark.admit(8)
    watermark.complete(8)
    assert (watermark.position, watermark.pending) == (10, 0)
    assert [watermark.is_done(offset) for offset in (5, 8, 9, 10)] == [True, True, True, False]


def test_an_offset_that_the_log_has_lost_since_holds_nothing_up() -> None:
    watermark = resumed(5, 10, 6, 8)
    watermark.admit(8)
    assert (watermark.position, watermark.pending, watermark.changes) == (8, 1, 2)
    assert watermark.is_done(6)


def test_everything_that_was_left_may_be_gone() -> None:
    watermark = resumed(5, 10, 6, 8)
    watermark.admit(100)
    assert (watermark.position, watermark.pending, watermark.snapshot()) == (100, 1, OffsetMap(100, 101, [100]))


def test_what_is_admitted_beyond_the_map_goes_on_from_it() -> None:
    watermark = resumed(5, 10)
    for offset in (5, 10, 11):
        watermark.admit(offset)
    watermark.complete(10)
    assert watermark.snapshot() == OffsetMap(5, 12, [5, 11])


def test_admitting_is_nothing_to_commit_and_completing_is_even_above_the_position() -> None:
    watermark = admitted(4, 5)
    assert watermark.changes == 0
    watermark.complete(5)
    assert (watermark.position, watermark.changes) == (4, 1)
    watermark.complete(4)
    assert watermark.changes == 2


class NaiveHeir:
    """What an owner has to know after it took over, by definition."""

    def __init__(self, left: Sequence[int], end: int | None) -> None:
        self.awaited = set(left)
        self.unfinished = set(left)
        self.end = end

    @property
    def position(self) -> int | None:
        return min(self.unfinished, default=self.end)

    def admit(self, offset: int) -> None:
        passed = {each for each in self.awaited if each < offset}
        self.unfinished -= passed
        self.unfinished.add(offset)
        self.awaited -= passed | {offset}
        self.end = max(self.end or 0, offset + 1)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1), st.none() | st.floats(0, 1)), max_size=12),
    st.sampled_from([0, 10**12]),
    st.randoms(use_true_random=False),
)
def test_owner_after_owner_nothing_is_lost_and_nothing_that_is_known_to_be_done_comes_again(
    gaps: list[int], steps: list[tuple[int, float, float | None]], first: int, random: Random
) -> None:
    """In each step so many records are delivered, a share of what runs is done, and maybe the partition changes hands.

    Then a share of the records that are not done is gone from the log.
    """
    log = [first := first + gap for gap in gaps]
    done: set[int] = set()
    watermark, model, following = Watermark(), NaiveHeir([], None), 0
    for count, finished, lost in [*steps, (len(log), 1.0, None)]:
        for offset in log[following : following + count]:
            assert watermark.is_done(offset) == (offset in done)
            if offset not in done:
                watermark.admit(offset)
                model.admit(offset)
        following = min(following + count, len(log))
        running = sorted(model.unfinished - model.awaited)
        for offset in random.sample(running, round(finished * len(running))):
            changes = watermark.changes
            watermark.complete(offset)
            assert watermark.changes > changes
            model.unfinished.remove(offset)
            done.add(offset)
        assert (watermark.position, watermark.pending) == (model.position, len(model.unfinished - model.awaited))
        known = watermark.snapshot()
        assert known == (None if model.end is None else OffsetMap(model.position, model.end, sorted(model.unfinished)))
        if lost is not None and known is not None:
            watermark, model, text = Watermark(), NaiveHeir([], None), known.encode()
            if text:
                watermark.resume(OffsetMap.decode(text, known.position))
                model = NaiveHeir(known.pending, known.end)
                assert watermark.snapshot() == known
            log = [offset for offset in log if offset in done or random.random() >= lost]
            following = sum(offset < known.position for offset in log)
    assert done.issuperset(log)
    watermark.admit(first + 1)  # what was left and is gone is known to be so by then
    assert watermark.position == first + 1


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
