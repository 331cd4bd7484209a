"""A wall clock that jumps: nothing ends early because of it, and nothing is forgotten."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.handling.clock import SteadyClock
from tests.handling.world import GRACE, HOUR, MINUTE, SECOND, World, start
from tests.reservations.bookings import END, NINE

TEN_MINUTES = 600.0
jumps = pytest.mark.parametrize("jump", [HOUR, -HOUR])


@dataclass
class Time:
    """A wall clock and a monotonic one, and how far the first is off."""

    tick: float = 0.0
    off: timedelta = timedelta()
    clock: SteadyClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = SteadyClock(self.wall, lambda: self.tick)

    def true(self) -> datetime:
        return NINE + timedelta(seconds=self.tick)

    def wall(self) -> datetime:
        return self.true() + self.off

    def error_after(self, seconds: float) -> timedelta:
        """How far the clock is off after this time, in which it was asked each second."""
        for _ in range(int(seconds)):
            self.tick += 1.0
            self.clock.now()
        return self.clock.now() - self.true()


def test_it_is_the_time_of_the_wall() -> None:
    time = Time()
    time.off = 3 * SECOND
    assert time.error_after(10) == 3 * SECOND


@jumps
def test_a_jump_is_not_believed_at_once(jump: timedelta) -> None:
    time = Time()
    time.off = jump
    assert time.error_after(TEN_MINUTES - 1) == timedelta()


@jumps
def test_a_jump_that_lasts_is_believed(jump: timedelta) -> None:
    time = Time()
    time.off = jump
    assert time.error_after(TEN_MINUTES + 1) == jump


@jumps
def test_a_jump_that_is_taken_back_was_nothing(jump: timedelta) -> None:
    time = Time()
    time.off = jump
    assert time.error_after(TEN_MINUTES - 60) == timedelta()
    time.off = timedelta()
    assert time.error_after(1) == timedelta()
    time.off = jump
    assert time.error_after(TEN_MINUTES - 60) == timedelta()


def test_a_clock_that_jumps_about_is_not_believed_at_all() -> None:
    time = Time()
    for _ in range(10):
        for off in (HOUR, 2 * HOUR):
            time.off = off
            assert time.error_after(TEN_MINUTES / 2) == timedelta()


def test_a_clock_that_drifts_is_followed() -> None:
    time = Time()
    for _ in range(60):
        time.off += 2 * SECOND
        assert time.error_after(1) == time.off


@given(st.lists(st.tuples(st.integers(-7200, 7200), st.integers(1, 590))))
def test_shorter_than_ten_minutes_is_never_believed(steps: list[tuple[int, int]]) -> None:
    time = Time()
    for off, seconds in steps:
        time.off = timedelta(seconds=off)
        assert abs(time.error_after(seconds)) <= 5 * SECOND * len(steps)
        time.off = time.clock.now() - time.true()  # it is set right, as far as anybody knows
        time.error_after(1)


async def test_an_hour_too_late_expires_nothing() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep_until(NINE + 30 * MINUTE)
        world.wall_is_ahead = HOUR
        await world.sleep(9 * MINUTE)
        assert world.exists()
        world.wall_is_ahead = timedelta()
        await world.sleep_until(END + GRACE - SECOND)
        assert world.outcomes() == [("provisioned", None)]
        await world.sleep(5 * SECOND)
        assert world.outcomes()[1:] == [("expired", "expired")]


async def test_an_hour_too_early_forgets_nothing() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep_until(END + GRACE - 5 * MINUTE)
        world.wall_is_ahead = -HOUR
        await world.sleep_until(END + GRACE + 5 * SECOND)
        assert world.outcomes()[1:] == [("expired", "expired")]


@pytest.mark.parametrize(("ahead", "expires"), [(HOUR, END - HOUR + GRACE), (-HOUR, END + HOUR + GRACE)])
async def test_a_clock_that_was_set_right_counts_from_then_on(ahead: timedelta, expires: datetime) -> None:
    world = World()
    async with world.served():
        world.send(start(end=END + HOUR))
        await world.sleep(MINUTE)
        world.wall_is_ahead = ahead
        await world.sleep_until(expires + HOUR - SECOND)
        assert world.exists()
        await world.sleep(5 * SECOND)
        assert not world.exists()


async def test_a_start_while_the_clock_is_wrong_is_judged_by_the_true_time() -> None:
    world = World()
    async with world.served():
        await world.sleep(MINUTE)
        world.wall_is_ahead = 3 * HOUR
        world.send(start())
        await world.sleep(SECOND)
        assert world.outcomes() == [("provisioned", None)]
