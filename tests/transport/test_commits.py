"""What a commit says, when there is one, and what becomes of one that fails."""

import asyncio
import random
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    OffsetMetadataTooLargeError,
    TopicAuthorizationFailedError,
)
from structlog.testing import capture_logs

from consumer.dispatch import Assignment, OffsetMap
from consumer.dispatch.offset_map import LIMIT
from consumer.transport.commits import Committer

Commit = dict[TopicPartition, tuple[int, str]]


class Broker:
    """A consumer's `commit`, and what the broker behind it knows."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        """Those that were confirmed."""

        self.requests = 0
        self.answer: Callable[[Commit], BaseException | None] = lambda commit: None
        self.takes = 0.0

    async def commit(self, offsets: Commit) -> None:
        self.requests += 1
        await asyncio.sleep(self.takes)
        if (error := self.answer(offsets)) is not None:
            raise error
        self.commits.append({tp: (offset, metadata) for tp, (offset, metadata) in offsets.items()})

    def takes_metadata_of(self, limit: int) -> None:
        self.answer = lambda commit: (
            OffsetMetadataTooLargeError() if any(len(metadata) > limit for _, metadata in commit.values()) else None
        )


def assigned(number: int = 0, *, admitted: int = 0, done: int = 0) -> Assignment:
    """Of the offsets below `admitted` those below `done` are done."""
    assignment = Assignment("reservations", number, epoch=1)
    for offset in range(admitted):
        assignment.watermark.admit(offset)
    complete(assignment, *range(done))
    return assignment


def complete(assignment: Assignment, *offsets: int) -> None:
    for offset in offsets:
        assignment.watermark.complete(offset)


def crowd(assignment: Assignment, size: int) -> None:
    """Fill the offset map with `size` characters or a few more: what is done follows no pattern."""
    draw = random.Random(1)  # noqa: S311 - the same map every time
    while (missing := size - len(known(assignment).encode())) > 0:
        end = known(assignment).end
        for offset in range(end, end + 4 * missing):
            assignment.watermark.admit(offset)
            if draw.random() < 0.5:
                complete(assignment, offset)


def known(assignment: Assignment) -> OffsetMap:
    snapshot = assignment.watermark.snapshot()
    assert snapshot is not None
    return snapshot


def tp(number: int = 0) -> TopicPartition:
    return TopicPartition("reservations", number)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def committer(broker: Broker) -> Committer:
    return Committer(broker, timeout=5.0)


# What is committed


async def test_the_watermark_is_committed_and_what_is_done_above_it(broker: Broker, committer: Committer) -> None:
    assignment = assigned(admitted=10, done=3)
    complete(assignment, 5, 6, 9)
    assert await committer.commit([assignment])
    [commit] = broker.commits
    [(position, metadata)] = commit.values()
    assert (list(commit), position) == ([tp()], 3)
    assert OffsetMap.decode(metadata, 3) == OffsetMap(3, 10, [3, 4, 7, 8])


async def test_where_all_is_done_the_offset_says_everything(broker: Broker, committer: Committer) -> None:
    assert await committer.commit([assigned(admitted=10, done=10)])
    assert broker.commits == [{tp(): (10, "")}]


async def test_only_partitions_with_something_new_are_committed(broker: Broker, committer: Committer) -> None:
    first, second, untouched, waiting = (
        assigned(1, admitted=9),
        assigned(2, admitted=9),
        assigned(3),
        assigned(4, admitted=1),
    )
    everything = [first, second, untouched, waiting]
    complete(first, 0)
    complete(second, 0)
    await committer.commit(everything)
    complete(second, 1)
    await committer.commit(everything)
    await committer.commit(everything)
    assert [{at.partition: position for at, (position, _) in commit.items()} for commit in broker.commits] == [
        {1: 1, 2: 1},
        {2: 2},
    ]
    assert broker.requests == 2


async def test_what_is_done_above_the_watermark_is_reason_enough_for_a_commit(
    broker: Broker, committer: Committer
) -> None:
    assignment = assigned(admitted=10, done=3)
    await committer.commit([assignment])
    complete(assignment, 8)
    await committer.commit([assignment])
    positions = [commit[tp()][0] for commit in broker.commits]
    maps = [OffsetMap.decode(commit[tp()][1], 3).pending for commit in broker.commits]
    assert (positions, maps) == ([3, 3], [[3, 4, 5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 9]])


async def test_what_an_earlier_owner_committed_is_not_committed_again(broker: Broker, committer: Committer) -> None:
    assignment = assigned()
    assignment.watermark.resume(OffsetMap(3, 10, [3, 7]))
    assert await committer.commit([assignment])
    assert broker.requests == 0
    assignment.watermark.admit(3)
    complete(assignment, 3)
    await committer.commit([assignment])
    assert broker.commits[0][tp()][0] == 7


async def test_nothing_to_commit_is_confirmed_without_asking(broker: Broker, committer: Committer) -> None:
    broker.answer = lambda commit: CommitFailedError()
    assert await committer.commit([])
    assert await committer.commit([assigned()])
    assert broker.requests == 0


async def test_what_is_done_while_a_commit_is_under_way_is_in_the_next_one(
    broker: Broker, committer: Committer
) -> None:
    assignment = assigned(admitted=10, done=3)
    broker.takes = 2.0
    committing = asyncio.create_task(committer.commit([assignment]))
    await asyncio.sleep(1)
    complete(assignment, 3)
    assert await committing
    assert await committer.commit([assignment])
    assert [commit[tp()][0] for commit in broker.commits] == [3, 4]


async def test_a_partition_that_comes_back_begins_anew(broker: Broker, committer: Committer) -> None:
    first = assigned(admitted=10, done=3)
    await committer.commit([first])
    committer.forget([first])
    second = assigned(admitted=10, done=3)
    await committer.commit([second])
    assert [commit[tp()][0] for commit in broker.commits] == [3, 3]
    assert (committer._committed, committer._due_since) == ({second: 3}, {})


# What fails


async def test_a_broker_that_does_not_answer_is_not_waited_for_beyond_the_timeout(
    broker: Broker, committer: Committer
) -> None:
    assignment = assigned(admitted=10, done=3)
    broker.takes = 1000.0
    with capture_logs() as logs:
        assert not await committer.commit([assignment])
    assert (now(), [entry["event"] for entry in logs]) == (5.0, ["commit_failed"])
    broker.takes = 0.0
    assert await committer.commit([assignment])
    assert broker.commits[0][tp()][0] == 3


@pytest.mark.parametrize(
    ("error", "event", "level"),
    [
        (CommitFailedError("rebalanced"), "commit_superseded", "info"),
        (IllegalStateError("not assigned"), "commit_superseded", "info"),
        (TopicAuthorizationFailedError(), "commit_failed", "warning"),
        (KafkaTimeoutError(), "commit_failed", "warning"),
        (KafkaError(), "commit_failed", "warning"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
async def test_what_could_not_be_committed_stays_due(
    broker: Broker, committer: Committer, error: KafkaError, event: str, level: str
) -> None:
    assignment = assigned(admitted=10, done=3)
    broker.answer = lambda commit: error
    with capture_logs() as logs:
        assert not await committer.commit([assignment])
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [(event, level)]
    broker.answer = lambda commit: None
    assert await committer.commit([assignment])
    assert [commit[tp()][0] for commit in broker.commits] == [3]


async def test_cancelling_a_commit_cancels_it(broker: Broker, committer: Committer) -> None:
    assignment = assigned(admitted=10, done=3)
    broker.takes = 1000.0
    committing = asyncio.create_task(committer.commit([assignment]))
    await asyncio.sleep(1)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    broker.takes = 0.0
    assert await committer.commit([assignment])


# Maps that do not fit


async def test_a_map_that_does_not_fit_is_left_out_and_the_watermark_is_committed(
    broker: Broker, committer: Committer
) -> None:
    assignment = assigned(admitted=1)
    crowd(assignment, LIMIT + 1)
    assert await committer.commit([assignment])
    assert broker.commits == [{tp(): (0, "")}]
    assert assignment.crowded


async def test_a_map_that_just_fits_is_committed(broker: Broker, committer: Committer) -> None:
    assignment = assigned(admitted=1)
    crowd(assignment, LIMIT - 100)
    assert await committer.commit([assignment])
    [(_, metadata)] = broker.commits[0].values()
    assert LIMIT - 100 <= len(metadata) <= LIMIT
    assert OffsetMap.decode(metadata, 0) == known(assignment)


async def test_a_partition_is_crowded_above_three_quarters_and_calm_at_half(
    broker: Broker, committer: Committer
) -> None:
    assignment = assigned(admitted=1)
    crowd(assignment, LIMIT * 3 // 4 - 100)
    await committer.commit([assignment])
    assert (assignment.crowded, assignment.takes(10**6)) == (False, True)
    crowd(assignment, LIMIT * 3 // 4 + 1)
    with capture_logs() as logs:
        await committer.commit([assignment])
        assert (assignment.crowded, assignment.takes(10**6), assignment.takes(5)) == (True, False, True)
        while len(known(assignment).encode()) > LIMIT // 2:
            assert assignment.crowded
            complete(assignment, *known(assignment).pending[:50])
            await committer.commit([assignment])
        assert (assignment.crowded, assignment.takes(10**6)) == (False, True)
    assert [entry["event"] for entry in logs] == ["offset_map_crowded", "offset_map_calm"]


async def test_completing_the_lowest_offsets_is_enough_to_be_calm_again(broker: Broker, committer: Committer) -> None:
    assignment = assigned(admitted=1)
    crowd(assignment, LIMIT + 1)
    await committer.commit([assignment])
    complete(assignment, *known(assignment).pending)
    await committer.commit([assignment])
    assert (assignment.crowded, broker.commits[-1]) == (False, {tp(): (known(assignment).end, "")})


async def test_a_broker_that_takes_less_gets_less_and_the_commit_is_not_lost(
    broker: Broker, committer: Committer
) -> None:
    large, small = assigned(1, admitted=1), assigned(2, admitted=10, done=3)
    crowd(large, 2000)
    broker.takes_metadata_of(1024)
    with capture_logs() as logs:
        assert await committer.commit([large, small])
    [commit] = broker.commits
    assert commit[tp(1)] == (0, "")
    assert OffsetMap.decode(commit[tp(2)][1], 3) == known(small)
    assert [(entry["event"], entry["limit"]) for entry in logs if "limit" in entry] == [
        ("offset_maps_too_large", 2048),
        ("offset_maps_too_large", 1024),
    ]
    assert (large.crowded, small.crowded) == (True, False)


async def test_what_a_broker_takes_is_remembered(broker: Broker, committer: Committer) -> None:
    assignment = assigned(admitted=1)
    crowd(assignment, 2000)
    broker.takes_metadata_of(1024)
    await committer.commit([assignment])
    requests = broker.requests
    crowd(assignment, 2100)
    await committer.commit([assignment])
    assert broker.requests == requests + 1


async def test_a_broker_that_takes_no_metadata_at_all_gets_offsets(broker: Broker, committer: Committer) -> None:
    assignment = assigned(admitted=10, done=3)
    complete(assignment, 5)
    broker.takes_metadata_of(0)
    assert await committer.commit([assignment])
    assert broker.commits == [{tp(): (3, "")}]


async def test_a_broker_that_finds_everything_too_large_is_not_asked_for_ever(
    broker: Broker, committer: Committer
) -> None:
    assignment = assigned(admitted=10, done=3)
    broker.answer = lambda commit: OffsetMetadataTooLargeError()
    assert not await committer.commit([assignment])
    assert broker.requests < 20
    broker.answer = lambda commit: None
    assert await committer.commit([assignment])


async def test_the_timeout_holds_for_all_attempts_together(broker: Broker, committer: Committer) -> None:
    assignment = assigned(admitted=1)
    crowd(assignment, 2000)
    broker.takes_metadata_of(0)
    broker.takes = 2.0
    assert not await committer.commit([assignment])
    assert now() == 5.0


# For how long


async def test_the_age_is_that_of_the_first_commit_that_did_not_come_through(
    broker: Broker, committer: Committer
) -> None:
    assignment = assigned(admitted=10)
    assert committer.age([assignment]) == 0
    complete(assignment, 0)
    broker.answer = lambda commit: KafkaError()
    ages = []
    for _ in range(3):
        await committer.commit([assignment])
        await asyncio.sleep(10)
        ages.append(committer.age([assignment]))
    broker.answer = lambda commit: None
    await committer.commit([assignment])
    assert (ages, committer.age([assignment])) == ([10, 20, 30], 0)
    await asyncio.sleep(1000)
    complete(assignment, 1)
    assert committer.age([assignment]) == 0  # nobody has tried yet


async def test_what_was_done_during_a_commit_has_waited_since_that_began(broker: Broker, committer: Committer) -> None:
    assignment = assigned(admitted=10, done=3)
    broker.takes = 4.0
    committing = asyncio.create_task(committer.commit([assignment]))
    await asyncio.sleep(2)
    complete(assignment, 3)
    await committing
    assert committer.age([assignment]) == 4
    await committer.commit([assignment])
    assert committer.age([assignment]) == 0


async def test_one_partition_that_is_committed_does_not_make_another_look_fresh(
    broker: Broker, committer: Committer
) -> None:
    stuck, fine, idle = assigned(1, admitted=10, done=1), assigned(2, admitted=10, done=1), assigned(3)
    broker.answer = lambda commit: KafkaError() if tp(1) in commit else None
    await committer.commit([stuck, fine])
    await asyncio.sleep(50)
    assert await committer.commit([fine])
    assert await committer.commit([idle])
    assert (committer.age([stuck, fine, idle]), committer.age([fine, idle])) == (50, 0)
    committer.forget([stuck])
    assert committer.age([fine, idle]) == 0


async def test_a_partition_that_was_left_has_no_age(broker: Broker, committer: Committer) -> None:
    leaving = assigned(1, admitted=10, done=1)
    broker.answer = lambda commit: CommitFailedError()
    await committer.commit([leaving])
    committer.forget([leaving])
    await asyncio.sleep(50)
    assert committer.age([]) == 0
