"""What runs is compared with what is remembered: what nobody remembers goes, and what is gone is told."""

from datetime import timedelta
from typing import Any

import pytest

from consumer.catalog.identity import reservation_key
from consumer.dispatch import Limits
from consumer.handling.errors import Permanent
from schemas.state import Phase
from tests.handling.world import (
    GRACE,
    HOUR,
    INSTANCE,
    KEPT,
    MINUTE,
    POD,
    RECONCILED_AFTER,
    RECONCILED_EVERY,
    SECOND,
    World,
    end,
    start,
    updated,
)
from tests.reservations.bookings import END, NINE, SERVER

RUNS = ("provisioned", None)
SOON = timedelta(seconds=RECONCILED_AFTER - 1)
THEN = timedelta(seconds=RECONCILED_AFTER + 2 * RECONCILED_EVERY + 1)
"""When all that differs has been dealt with."""

LATE = END + 5 * HOUR


async def with_environment(world: World, **changes: Any) -> None:
    """One that runs, and whose start is committed."""
    async with world.served():
        world.send(start(**changes))
        await world.sleep(10 * SECOND)
    assert world.exists()


def vanishes(world: World) -> None:
    for engine in (world.docker, world.podman):
        for name in engine.names():
            engine.vacate(name)


@pytest.mark.parametrize("resource", [SERVER, POD])
async def test_what_is_lost_is_told_as_failed(resource) -> None:  # type: ignore[no-untyped-def]
    world = World()
    async with world.served():
        world.send(start(resource=resource, end=LATE))
        await world.sleep(SECOND)
        vanishes(world)
        await world.sleep(SOON)
        assert world.outcomes() == [RUNS]
        await world.sleep(THEN)
        assert world.outcomes() == [RUNS, ("failed", "lost")]
        assert "no longer there" in world.notes[-1].message
        await world.sleep(HOUR)
        assert len(world.said) == 2
        assert world.letters == []


async def test_one_that_stopped_is_lost_and_what_is_left_of_it_goes() -> None:
    world = World()
    async with world.served():
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        world.docker.stop(reservation_key(INSTANCE, "1841"))
        await world.sleep(THEN)
        assert world.outcomes() == [RUNS, ("failed", "lost")]
        assert world.environments == set()


@pytest.mark.parametrize("how", ["stops", "vanishes"])
async def test_what_is_to_be_kept_is_made_again(how: str) -> None:
    world = World()
    async with world.served():
        world.send(start(resource=KEPT, end=LATE))
        await world.sleep(SECOND)
        for _ in range(3):
            if how == "stops":
                world.docker.stop(reservation_key(INSTANCE, "1841"))
            else:
                vanishes(world)
            await world.sleep(THEN)
            assert world.exists()
    assert set(world.outcomes()) == {RUNS}
    assert len(world.outcomes()) == 4
    assert world.violations == []


async def test_nothing_is_made_again_when_its_time_is_over() -> None:
    world = World()
    async with world.served():
        world.send(start(resource=KEPT, end=NINE + 10 * MINUTE))
        await world.sleep_until(NINE + 9 * MINUTE)
        vanishes(world)
        await world.sleep(HOUR)
    assert world.outcomes() == [RUNS, ("expired", "expired")]
    assert world.letters == []


async def test_what_was_lost_and_ends_is_told_both() -> None:
    world = World()
    async with world.served():
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        vanishes(world)
        await world.sleep(THEN)
        world.send(end())
        await world.sleep(SECOND)
        assert world.outcomes()[1:] == [("failed", "lost"), ("skipped", "nothing_to_release")]


async def test_a_start_after_the_loss_makes_it_again() -> None:
    world = World()
    async with world.served():
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        vanishes(world)
        await world.sleep(THEN)
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        assert world.exists()


@pytest.mark.parametrize("resource", [SERVER, POD])
async def test_what_nobody_remembers_goes_when_its_time_is_over(resource) -> None:  # type: ignore[no-untyped-def]
    world = World()
    await with_environment(world, resource=resource)
    world.states.clear()
    async with world.served():
        await world.sleep_until(END + GRACE - SECOND)
        assert world.exists()
        await world.sleep(THEN + 2 * SECOND)
        assert not world.exists()
    assert world.outcomes() == [RUNS]


async def test_it_stays_until_somebody_owns_the_partition_of_its_reservation() -> None:
    world = World()
    await with_environment(world)
    world.states.clear()
    other = 1 - world.partition_of("1841")
    async with world.served(partitions=[other]) as service:
        await world.sleep_until(LATE)
        assert world.exists()
        await service.gain(1 - other)
        await world.sleep(THEN)
        assert not world.exists()


async def test_what_another_member_remembers_is_left_alone() -> None:
    world = World()
    await with_environment(world, end=LATE)
    async with world.served(partitions=[1 - world.partition_of("1841")]):
        await world.sleep_until(LATE - MINUTE)
    assert world.exists()


async def test_what_runs_although_it_has_ended_goes() -> None:
    world = World()
    await with_environment(world)
    engine = world.docker._made.copy()
    async with world.served():
        world.send(end())
        await world.sleep(SECOND)
        assert not world.exists()
        told = len(world.said)
        world.docker._made |= engine  # somebody restored a backup
        await world.sleep(SOON)
        assert world.exists()
        await world.sleep(THEN)
        assert not world.exists()
        assert len(world.said) == told


async def test_what_a_crash_left_of_a_start_that_never_comes_again_goes() -> None:
    world = World()
    async with world.served():
        world.send(start())
        world.send(updated(1, start=NINE + 2 * HOUR, end=NINE + 3 * HOUR))
        await world.sleep(MINUTE)
        world.docker.latency = 50.0
        await world.sleep_until(NINE + 2 * HOUR - 6.5 * MINUTE)  # its timer began to make it
        assert world.exists()
        await world.dies()
        world.docker.latency = 0.0
        world.send(updated(2, start=NINE + 6 * HOUR, end=NINE + 7 * HOUR))
        await world.starts()
        await world.sleep(THEN)
        assert not world.exists()


async def test_an_installation_with_another_name_is_none_of_ours() -> None:
    world = World()
    await with_environment(world)
    world.states.clear()
    async with world.served(instance="other"):
        await world.sleep_until(LATE)
    assert world.exists()
    assert world.outcomes() == [RUNS]


@pytest.mark.parametrize("engine", ["docker", "podman"])
async def test_a_runtime_that_does_not_answer_tells_nothing(engine: str) -> None:
    world = World()
    async with world.served():
        world.send(start("one", end=LATE))
        world.send(start("two", end=LATE, resource=POD))
        await world.sleep(SECOND)
        getattr(world, engine).reachable = False
        await world.sleep(HOUR)
        getattr(world, engine).reachable = True
        await world.sleep(HOUR)
        assert world.exists("one")
        assert world.exists("two")
    assert len(world.said) == 2


async def test_a_runtime_that_stops_answering_between_two_looks_tells_nothing() -> None:
    world = World()
    async with world.served() as service:
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        world.docker.reachable = False
        assert service.look(service.assignments[world.partition_of("1841")], "1841")
        await world.sleep(MINUTE)
        assert world.outcomes() == [RUNS]
        assert world.letters == []
        world.docker.reachable = True
        await world.sleep(HOUR)
    assert world.outcomes() == [RUNS]


async def test_a_difference_that_passes_is_none() -> None:
    world = World()
    async with world.served():
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        for _ in range(5):
            made = world.docker._made.copy()
            vanishes(world)
            await world.sleep(SOON - MINUTE)
            world.docker._made |= made
            await world.sleep(2 * MINUTE)
    assert world.outcomes() == [RUNS]


async def test_what_is_being_made_is_not_missed_and_not_swept() -> None:
    world = World()
    async with world.served():
        world.docker.latency = 55.0
        world.send(start(end=LATE))
        await world.sleep(20 * MINUTE)
        assert world.outcomes() == [RUNS]
        assert world.exists()


async def test_what_there_is_no_room_for_is_looked_at_later() -> None:
    world = World(limits=Limits(max_records=1, max_records_per_partition=1))
    async with world.served():
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        world.podman.reachable = True
        vanishes(world)
        world.docker.latency = 299.0 / 5
        world.send(start("other", end=LATE))
        await world.sleep(4 * MINUTE)
        assert world.outcomes() == [RUNS]
        world.docker.latency = 0.0
        await world.sleep(2 * THEN)
        assert world.outcomes() == [RUNS, ("failed", "lost")]


async def test_a_state_is_written_where_it_belongs_whoever_looks() -> None:
    """Of several partitions, the one that the reservation's records go to."""
    world = World(partitions=8)
    names = [str(number) for number in range(40)]
    async with world.served():
        for name in names:
            world.send(start(name, end=NINE + 30 * MINUTE))
        await world.sleep(SECOND)
        engine = world.docker._made.copy()
        for name in names:
            world.send(end(name))
        await world.sleep(SECOND)
        world.docker._made |= engine
        await world.sleep(HOUR)
    assert world.environments == set()
    for partition, states in world.states.items():
        assert {world.partition_of(name) for name in states} == {partition}


async def test_what_ended_on_a_runtime_that_did_not_answer_goes_in_the_end() -> None:
    world = World()
    async with world.served():
        world.send(start(end=NINE + 10 * MINUTE))
        await world.sleep(SECOND)
        world.docker.reachable = False
        await world.sleep(10 * HOUR)
        assert world.exists()
        world.docker.reachable = True
        await world.sleep(THEN)
        assert not world.exists()
        state = world.state()
        assert state is not None
        assert state.phase is Phase.PENDING
    assert world.outcomes() == [RUNS, ("expired", "expired")]


@pytest.mark.parametrize("how", ["by itself", "by hand"])
async def test_what_could_not_be_released_is_owed_until_it_is_gone(how: str) -> None:
    world = World()
    async with world.served():
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        for number in range(1, 100):
            world.docker.fail("remove", Permanent("forbidden", "No."), nth=number)
        world.send(end())
        await world.sleep(THEN)
        assert world.outcomes() == [RUNS, ("failed", "forbidden")]
        owes = world.state()
        assert owes is not None
        assert owes.environment is not None
        if how == "by hand":
            vanishes(world)
        world.docker._failures.clear()
        await world.sleep(THEN)
        assert not world.exists()
        assert world.state() == owes.model_copy(update={"environment": None})
        assert len(world.said) == 2


async def test_what_could_not_be_released_is_forgotten_when_it_is_gone_and_long_over() -> None:
    world = World(retention=3600.0)
    async with world.served():
        world.send(start(end=NINE + 10 * MINUTE))
        await world.sleep(SECOND)
        world.docker.fail("remove", Permanent("forbidden", "No."))
        world.send(end())
        await world.sleep(2 * HOUR)
        assert world.state() is None


async def test_what_a_crash_left_on_another_runtime_goes_and_what_is_announced_stays() -> None:
    world = World()
    await with_environment(world, resource=POD, end=LATE)
    left = world.podman._made.copy()
    async with world.served():
        world.send(start(end=LATE))  # a move
        await world.sleep(SECOND)
        world.podman._made |= left
        await world.sleep(SOON)
        assert world.podman.names()
        await world.sleep(THEN)
        assert world.podman.names() == set()
        assert len(world.docker.names()) == 1
        assert world.outcomes() == [RUNS, ("released", "moved"), RUNS]


async def test_what_is_left_on_another_runtime_does_not_hide_a_loss() -> None:
    world = World()
    await with_environment(world, resource=POD, end=LATE)
    left = world.podman._made.copy()
    async with world.served():
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        world.podman._made |= left
        world.docker.vacate(*world.docker.names())
        await world.sleep(2 * THEN)
        assert world.outcomes()[3:] == [("failed", "lost")]
        assert world.environments == set()
