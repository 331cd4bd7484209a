"""Resources that hold one environment at a time: whoever comes next waits until the one before is gone."""

from datetime import datetime

import pytest

from consumer.catalog.identity import reservation_key
from consumer.provisioners.memory import Call
from tests.handling.world import (
    GPU,
    GRACE,
    HOUR,
    INSTANCE,
    MINUTE,
    OTHER_GPU,
    SECOND,
    World,
    created,
    end,
    start,
    updated,
)
from tests.reservations.bookings import END, NINE

LATE = END + 3 * HOUR
BUSY = ("failed", "resource_busy")
RUNS = ("provisioned", None)


def gpu(name: str, **changes: object):  # type: ignore[no-untyped-def]
    return start(name, **({"resource": GPU, "start": NINE, "end": LATE} | changes))


class OneAtATime:
    """Watches the runtime's GPUs: `most` is how many environments one of them ever had."""

    def __init__(self, world: World, takes: float = 0.0) -> None:
        self.world = world
        self.most = 0
        self.takes = takes
        world.docker.latency = self._pass

    async def _pass(self, call: Call) -> None:
        await self.world.sleep(self.takes * SECOND)
        there = [name for name in self.world.environments if "-gpu-1-" in name]
        self.most = max(self.most, len(there))


async def test_the_next_waits_for_the_end_of_the_one_before() -> None:
    world = World()
    watch = OneAtATime(world)
    async with world.served():
        world.send(gpu("first"))
        await world.sleep(SECOND)
        world.send(gpu("next"))
        await world.sleep(5 * MINUTE)
        assert world.outcomes("next") == []
        world.send(end("first"))
        await world.sleep(5 * SECOND)
        assert world.outcomes("next") == [RUNS]
        assert (world.exists("first"), world.exists("next")) == (False, True)
    assert watch.most == 1
    assert world.letters == []


async def test_the_next_waits_while_the_one_before_is_being_removed() -> None:
    world = World()
    watch = OneAtATime(world, takes=10.0)
    async with world.served():
        world.send(gpu("first"))
        await world.sleep(2 * MINUTE)
        world.send(end("first"))
        world.send(gpu("next"))
        await world.sleep(5 * MINUTE)
        assert world.outcomes("next") == [RUNS]
    assert watch.most == 1


@pytest.mark.parametrize("takes", [0.0, 0.5, 10.0])
async def test_of_two_at_once_one_waits(takes: float) -> None:
    world = World()
    watch = OneAtATime(world, takes)
    async with world.served():
        for name in ("a", "b", "c"):
            world.send(gpu(name))
        await world.sleep(5 * MINUTE)
        (runs,) = [name for name in ("a", "b", "c") if world.exists(name)]
        world.send(end(runs))
        await world.sleep(4 * MINUTE)
        assert sum(world.exists(name) for name in ("a", "b", "c")) == 1
        assert world.outcomes(runs) == [RUNS, ("released", None)]
    assert watch.most == 1


async def test_waiting_has_its_end_and_is_told() -> None:
    world = World(exclusive_wait=120.0)
    async with world.served():
        world.send(gpu("first"))
        await world.sleep(SECOND)
        world.send(gpu("next"))
        await world.sleep(110 * SECOND)
        assert world.outcomes("next") == []
        await world.sleep(20 * SECOND)
        assert world.outcomes("next") == [BUSY]
        assert len(world.letters) == 1
        assert "still in use" in world.notes[-1].message
        assert world.exists("first")


async def test_who_comes_early_has_all_its_patience_from_its_start_on() -> None:
    world = World(exclusive_wait=120.0)
    async with world.served():
        world.send(gpu("first"))
        await world.sleep(SECOND)
        begins = NINE + 8 * MINUTE
        world.send(created("next", resource=GPU, start=begins, end=LATE))
        world.send(gpu("next", start=begins))
        await world.sleep_until(begins + 110 * SECOND)
        assert ("next", *BUSY) not in [(each.reservation, each.outcome, each.reason) for each in world.said]
        await world.sleep(20 * SECOND)
        assert world.outcomes("next")[-1] == BUSY


async def test_nobody_waits_beyond_the_own_end() -> None:
    world = World(exclusive_wait=36_000.0)
    async with world.served():
        world.send(gpu("first"))
        await world.sleep(SECOND)
        world.send(gpu("next", end=NINE + 10 * MINUTE))
        await world.sleep_until(NINE + 11 * MINUTE)
        assert world.outcomes("next") == [BUSY]


async def test_an_end_ends_the_waiting() -> None:
    world = World()
    async with world.served() as service:
        world.send(gpu("first"))
        await world.sleep(SECOND)
        world.send(gpu("next"))
        await world.sleep(MINUTE)
        world.send(end("next"))
        await world.sleep(0.1 * SECOND)
        assert world.outcomes("next") == [("skipped", "ended_while_starting"), ("released", None)]
        assert service.dispatcher.outstanding == 0
        assert world.exists("first")


async def test_who_never_says_that_it_ends_holds_nobody_up_for_longer_than_the_grace() -> None:
    world = World()
    async with world.served():
        world.send(gpu("first", end=NINE + 20 * MINUTE))
        await world.sleep_until(NINE + 19 * MINUTE)
        world.send(gpu("next", start=NINE + 20 * MINUTE))
        await world.sleep_until(NINE + 20 * MINUTE + GRACE + 10 * SECOND)
        assert world.outcomes("first")[-1] == ("expired", "expired")
        assert world.outcomes("next") == [RUNS]


async def test_other_resources_do_not_wait() -> None:
    world = World()
    async with world.served():
        world.send(gpu("first"))
        world.send(gpu("next", resource=OTHER_GPU))
        await world.sleep(SECOND)
        assert world.exists("first")
        assert world.exists("next")


async def test_who_has_it_does_not_wait_for_itself() -> None:
    world = World()
    async with world.served():
        world.send(gpu("first"))
        world.send(gpu("first"))
        await world.sleep(SECOND)
        world.docker.stop(reservation_key(INSTANCE, "first"))
        world.send(gpu("first"))
        await world.sleep(SECOND)
    assert world.outcomes("first") == [RUNS] * 3


async def test_a_move_waits_too_and_lets_go_of_what_it_had() -> None:
    world = World()
    watch = OneAtATime(world)
    async with world.served():
        world.send(gpu("first"))
        world.send(gpu("moves", resource=OTHER_GPU))
        await world.sleep(SECOND)
        world.send(updated(1, "moves", resource=GPU, start=NINE, end=LATE))
        await world.sleep(MINUTE)
        assert not world.exists("moves")
        world.send(end("first"))
        await world.sleep(5 * SECOND)
        assert world.exists("moves")
        assert world.outcomes("moves") == [RUNS, ("released", "moved"), RUNS]
    assert watch.most == 1


@pytest.mark.parametrize("at", [NINE + SECOND, NINE + MINUTE])
async def test_a_restart_goes_on_waiting(at: datetime) -> None:
    world = World()
    watch = OneAtATime(world)
    async with world.served():
        world.send(gpu("first"))
        await world.sleep(0.5 * SECOND)
        world.send(gpu("next"))
        await world.sleep_until(at)
        await world.restarts()
        await world.sleep(MINUTE)
        assert world.outcomes("next") == []
        world.send(end("first"))
        await world.sleep(5 * SECOND)
        assert world.outcomes("next") == [RUNS]
    assert watch.most == 1
