"""Trying again: when, how often, and whose fault it was."""

import asyncio
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.dispatch import Done, Retry, RetryPolicy
from tests.dispatch.scene import Ack, Job, partition, scene

times = st.floats(0, 1e6)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    max_elapsed=times,
    base_delay=times,
    max_delay=times,
    rng=st.randoms(use_true_random=False),
)


@given(policies, st.integers(1, 10_000), times, st.none() | times)
def test_a_wait_keeps_every_bound(policy: RetryPolicy, attempt: int, elapsed: float, wish: float | None) -> None:
    wait = policy.delay(attempt, elapsed, wish)
    if wait is None:
        longest = max(policy.max_delay, wish or 0.0)
        assert attempt >= policy.max_attempts or elapsed + longest > policy.max_elapsed
    else:
        assert attempt < policy.max_attempts
        assert elapsed + wait <= policy.max_elapsed
        assert (wish or 0.0) <= wait <= max(policy.base_delay * 2.0 ** min(attempt - 1, 64), wish or 0.0)
        assert wait <= max(policy.max_delay, wish or 0.0)


@given(st.integers(1, 2**31))
def test_however_often_it_failed_the_wait_can_be_computed(attempt: int) -> None:
    policy = RetryPolicy(max_attempts=2**32, max_elapsed=math.inf)
    assert 0 <= policy.delay(attempt, 0.0) <= policy.max_delay


def test_the_wait_is_spread_over_the_whole_of_a_doubling_range() -> None:
    policy = RetryPolicy(max_attempts=10, base_delay=1.0, max_delay=8.0, rng=random.Random(1))  # noqa: S311 - the same waits every time
    for attempt, ceiling in enumerate([1, 2, 4, 8, 8], start=1):
        waits = [policy.delay(attempt, 0.0) for _ in range(2000)]
        assert min(waits) < 0.02 * ceiling
        assert 0.98 * ceiling < max(waits) <= ceiling
        assert sum(waits) / len(waits) == pytest.approx(ceiling / 2, rel=0.05)


def test_the_last_attempt_is_not_followed_by_another() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert [policy.delay(attempt, 0.0) is None for attempt in (1, 2, 3, 4)] == [False, False, True, True]


def test_a_wish_that_takes_longer_than_the_time_left_ends_it() -> None:
    policy = RetryPolicy(max_elapsed=60.0, max_delay=1.0)
    assert policy.delay(1, 10.0, retry_after=30.0) == 30.0
    assert policy.delay(1, 40.0, retry_after=30.0) is None


async def test_attempts_are_counted_from_one_and_time_from_the_first() -> None:
    async with scene() as stage:
        stage.admit(partition(), "a", Job("busy", takes=100), Job("a", endings=(Retry(10), Retry(5), Done())))
        await stage.settle()
        assert stage.attempts == [("busy", 1, 0), ("a", 1, 0), ("a", 2, 10), ("a", 3, 15)]


async def test_a_fresh_retry_begins_the_count_and_the_time_anew() -> None:
    async with scene() as stage:
        stage.admit(partition(), "a", Job("a", endings=(Retry(10), Retry(5, fresh=True), Retry(1), Done())))
        await stage.settle()
        assert stage.attempts == [("a", 1, 0), ("a", 2, 10), ("a", 1, 0), ("a", 2, 1)]


async def test_a_retry_at_once_does_not_starve_the_rest_of_the_program() -> None:
    async with scene(concurrency=1) as stage:
        stage.admit(partition(), "a", Job("eager", takes=None, endings=(*[Retry(0)] * 1000, Done())))
        stage.admit(partition(), "b", "other")
        await stage.settle()
        assert stage.happened()[:2] == ["eager", "other"]
        assert len(stage.happened()) == 1002


async def test_a_handler_that_raised_is_told_of_and_tried_again_ever_later() -> None:
    error = ValueError("a defect")
    async with scene() as stage:
        stage.admit(partition(), "a", Job("defective", endings=(*[error] * 30, Done())), "next")
        await stage.settle()
        assert stage.crashes == [("defective", error)] * 30
        assert [attempt for _, attempt, _ in stage.attempts] == [*range(1, 32), 1]
        starts = [elapsed for _, _, elapsed in stage.attempts[:-1]]
        waits = [later - earlier for earlier, later in pairwise(starts)]
        assert waits[0] <= 1.0
        assert 5.0 < max(waits) <= 60.0


async def test_a_handler_whose_helper_was_cancelled_is_tried_again() -> None:
    """A connection pool that closes cancels whoever waits for it; that is not a cancellation of the handler."""
    assignment = partition()
    async with scene(concurrency=1) as stage:
        stage.admit(assignment, "a", Job("unlucky", endings=(asyncio.CancelledError(), Done())), "next")
        await stage.settle()
        assert stage.happened() == ["unlucky", "unlucky", "next"]
        assert [type(error) for _, error in stage.crashes] == [asyncio.CancelledError]
        assert assignment.watermark.position == 2


@pytest.mark.parametrize("error", [OSError("no broker"), asyncio.CancelledError()], ids=["failed", "cancelled"])
async def test_publishing_that_failed_makes_the_whole_work_be_tried_again(error: BaseException) -> None:
    assignment = partition()
    failing, fine = Done((Ack(1, error),)), Done((Ack(1),))
    async with scene() as stage:
        stage.admit(assignment, "a", Job("unheard", endings=(failing, fine)), "next")
        await stage.settle()
        assert stage.happened() == ["unheard", "unheard", "next"]
        assert [(name, type(told)) for name, told in stage.crashes] == [("unheard", type(error))]
        assert (assignment.watermark.position, stage.dispatcher.completed) == (2, 2)
