"""An end that comes in while an environment is being made: the making is broken off, and the end follows at once."""

import asyncio
from collections.abc import Callable

import pytest

from consumer.dispatch import Limits
from consumer.handling.errors import Transient
from consumer.provisioners.memory import Call, MemoryEngine
from schemas.events import ReservationEvent
from schemas.state import Phase
from tests.handling.world import HOUR, KEPT, MINUTE, POD, SECOND, World, created, deleted, end, start, updated
from tests.reservations.bookings import END, NINE, OTHER_SERVER, SERVER

BROKEN_OFF = [("skipped", "ended_while_starting"), ("released", None)]
RUNS = ("provisioned", None)

endings = pytest.mark.parametrize("ending", [end(), deleted()])


class Step:
    """Calls `act` when the engine's `at`th step is reached: each call has one or more on its way."""

    def __init__(self, engine: MemoryEngine, at: int, act: Callable[[], None]) -> None:
        self.reached = False
        self._left = at
        self._act = act
        engine.latency = self._pass

    async def _pass(self, call: Call) -> None:
        self._left -= 1
        if self._left == 0:
            self.reached = True
            self._act()
        await asyncio.sleep(1.0)


async def quiet(world: World) -> None:
    """Everything is done, and time for whatever would come late has passed."""
    assert world.service is not None
    await world.sleep(2 * MINUTE)
    assert world.service.dispatcher.outstanding == 0
    await world.sleep(10 * MINUTE)
    assert world.violations == []
    assert world.letters == []


@endings
async def test_an_end_does_not_wait_for_a_slow_start(ending: ReservationEvent) -> None:
    world = World()
    async with world.served():
        world.docker.latency = 100.0
        world.send(start())
        await world.sleep(150 * SECOND)
        world.docker.latency = 0.0
        world.send(ending)
        await world.sleep(0.1 * SECOND)
        assert world.outcomes() == BROKEN_OFF
        assert world.environments == set()
        assert world.notes[-1].message.endswith("was removed. The reservation has ended.")


@endings
async def test_wherever_a_start_is_broken_off_nothing_is_left(ending: ReservationEvent) -> None:
    at, reached = 0, True
    while reached:
        at += 1
        world = World()
        async with world.served():
            step = Step(world.docker, at, lambda world=world: world.send(ending))  # type: ignore[misc]
            world.send(start())
            await world.sleep(MINUTE)
            reached = step.reached
            if reached:
                assert world.outcomes() in (BROKEN_OFF, [RUNS, ("released", None)]), at
                await quiet(world)
                assert world.environments == set(), at
                state = world.state()
                assert state is not None
                assert (state.phase, state.environment, state.access) == (Phase.RELEASED, None, None)
    assert at > 4


MOVES = [updated(1, resource=OTHER_SERVER), updated(1, resource=POD)]


@endings
@pytest.mark.parametrize("moved", MOVES)
@pytest.mark.parametrize("engine", ["docker", "podman"])
async def test_wherever_a_move_is_broken_off_nothing_is_left(
    ending: ReservationEvent, moved: ReservationEvent, engine: str
) -> None:
    at, reached = 0, True
    while reached:
        at += 1
        world = World()
        async with world.served():
            world.send(start())
            await world.sleep(MINUTE)
            step = Step(getattr(world, engine), at, lambda world=world: world.send(ending))  # type: ignore[misc]
            world.send(moved)
            await world.sleep(MINUTE)
            reached = step.reached
            if reached:
                await quiet(world)
                assert world.environments == set(), at
                told = world.outcomes()[1:]
                assert told[0] == ("released", "moved")
                assert told[1:] in (BROKEN_OFF, [RUNS, ("released", None)]), at


@pytest.mark.parametrize("resource", [SERVER, POD])
async def test_what_was_begun_on_another_runtime_than_before_goes_too(resource) -> None:  # type: ignore[no-untyped-def]
    """It ran on one runtime, was postponed, and was being made on another when its end came."""
    at, reached = 0, True
    other = POD if resource is SERVER else SERVER
    while reached:
        at += 1
        world = World()
        async with world.served():
            world.send(start(resource=resource))
            await world.sleep(SECOND)
            world.send(updated(1, resource=resource, start=NINE + HOUR, end=NINE + 2 * HOUR))
            await world.sleep(SECOND)
            step = Step(
                world.podman if other is POD else world.docker,
                at,
                lambda world=world: world.send(end()),  # type: ignore[misc]
            )
            world.send(updated(2, resource=other, end=NINE + 2 * HOUR))
            await world.sleep(MINUTE)
            reached = step.reached
            if reached:
                await quiet(world)
                assert world.environments == set(), at


async def test_an_end_behind_a_start_that_never_began_leaves_the_runtime_alone() -> None:
    world = World(limits=Limits(concurrency=1))
    async with world.served():
        world.docker.latency = 10.0
        world.send(start("slow"))
        await world.sleep(SECOND)
        world.send(start())
        world.send(end())
        await world.sleep(10 * MINUTE)
        assert world.outcomes() == BROKEN_OFF
        assert [call.spec.reservation_id for call in world.docker.calls if call.spec] == ["slow"]


async def test_a_start_that_waits_for_its_next_attempt_is_never_tried_again() -> None:
    world = World()
    async with world.served():
        world.docker.fail("ensure", Transient("busy", "Not now.", retry_after=200.0))
        world.send(start())
        await world.sleep(MINUTE)
        world.send(end())
        await world.sleep(0.1 * SECOND)
        assert world.outcomes() == BROKEN_OFF
        await quiet(world)
        assert [call.operation for call in world.docker.calls].count("ensure") == 1


async def test_a_start_that_waits_for_its_runtime_ends_when_that_answers() -> None:
    world = World()
    async with world.served():
        world.docker.reachable = False
        world.send(start())
        await world.sleep(MINUTE)
        world.send(end())
        await world.sleep(10 * MINUTE)
        world.docker.reachable = True
        await quiet(world)
        assert world.outcomes() == BROKEN_OFF
        assert world.environments == set()


async def test_a_repeated_start_that_is_broken_off_takes_nothing_back() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
        world.docker.latency = 5.0
        world.send(start())
        await world.sleep(2 * SECOND)
        world.send(end())
        await quiet(world)
        assert world.outcomes() == [RUNS, *BROKEN_OFF]
        assert world.environments == set()


async def test_a_start_after_the_end_is_late_however_close_it_comes() -> None:
    world = World()
    async with world.served():
        world.docker.latency = 5.0
        for event in (start(), end(), start()):
            world.send(event)
        await quiet(world)
        assert world.outcomes() == [*BROKEN_OFF, ("skipped", "already_ended")]
        assert world.environments == set()


async def test_what_time_alone_began_is_broken_off_as_well() -> None:
    world = World()
    async with world.served():
        world.send(start())
        world.send(updated(1, start=NINE + HOUR, end=NINE + 2 * HOUR))
        await world.sleep(MINUTE)
        world.docker.latency = 100.0
        await world.sleep_until(NINE + HOUR - 9 * MINUTE)
        world.docker.latency = 0.0
        world.send(end())
        await world.sleep(SECOND)
        assert world.outcomes()[-2:] == BROKEN_OFF
        assert world.environments == set()


async def test_what_is_made_again_is_broken_off_as_well() -> None:
    world = World()
    async with world.served() as service:
        world.send(start(resource=KEPT))
        await world.sleep(SECOND)
        for name in world.environments:
            world.docker.vacate(name)
        world.docker.latency = 10.0
        assert service.look(service.assignments[world.partition_of("1841")], "1841")
        await world.sleep(55 * SECOND)
        world.send(end())
        await quiet(world)
        assert world.outcomes()[-1] == ("released", None)
        assert world.environments == set()


async def test_an_update_is_not_an_end() -> None:
    world = World()
    async with world.served():
        world.docker.latency = 10.0
        world.send(start())
        await world.sleep(5 * SECOND)
        world.send(updated(1, end=END + HOUR))
        await world.sleep(5 * MINUTE)
        assert world.outcomes() == [RUNS, ("updated", None)]


@pytest.mark.parametrize("died_after", [0.0, 0.005, 0.015, 0.025, 0.035, 0.05, 1.0])
async def test_a_crash_in_between_comes_to_the_same(died_after: float) -> None:
    world = World()
    async with world.served():
        world.docker.latency = 10.0
        world.send(created())
        world.send(start())
        await world.sleep(15 * SECOND)
        world.docker.latency = 0.0
        world.send(end())
        await asyncio.sleep(died_after)
        await world.restarts()
        await quiet(world)
        assert world.environments == set()
        assert {each.id for each in world.said if each.outcome == "released"}
        state = world.state()
        assert state is not None
        assert state.phase is Phase.RELEASED
