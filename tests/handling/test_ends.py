"""Environments show until when they go on: extensions reach the runtimes, and nothing waits for that."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from consumer.catalog.identity import reservation_key
from consumer.handling.ends import Ends
from consumer.handling.errors import Transient
from consumer.handling.ports import Environment
from consumer.provisioners.labels import moment_of
from consumer.provisioners.memory import Call
from schemas.state import Phase, ReservationState
from schemas.state_index import index_of
from tests.handling.world import (
    HOUR,
    INSTANCE,
    MINUTE,
    POD,
    RECONCILED_AFTER,
    RECONCILED_EVERY,
    SECOND,
    Service,
    World,
    end,
    start,
    updated,
)
from tests.reservations.bookings import END

LATER = END + HOUR
COMPARED = timedelta(seconds=RECONCILED_EVERY + 1)


def shown(world: World, reservation: str = "1841") -> datetime:
    """The end on the label, as whoever knows nothing of the reservation sees it."""
    (made,) = world.docker._of(reservation_key(INSTANCE, reservation))
    return datetime.fromisoformat(made.labels["moorage/expires-at"])


def told(world: World) -> list[str | None]:
    return [call.key for call in world.docker.calls if call.operation == "extend"]


async def running(world: World, service: Service) -> tuple[ReservationState, Environment]:
    """What is remembered of a reservation that runs, and its environment."""
    world.send(start())
    await world.sleep(SECOND)
    state = world.state()
    assert state is not None
    assert state.phase is Phase.ACTIVE
    (made,) = await service.provisioners[0].list()
    return state, made


@pytest.mark.parametrize("until", [LATER, END - MINUTE])
async def test_an_end_that_moved_is_shown_after_the_next_comparison_and_told_once(until: datetime) -> None:
    world = World()
    async with world.served():
        world.send(start())
        world.send(updated(1))
        await world.sleep(SECOND)
        world.send(updated(2, end=until))
        await world.sleep(SECOND)
        assert shown(world) == END
        await world.sleep(COMPARED)
        assert shown(world) == until
        await world.sleep(5 * COMPARED)
    assert told(world) == [reservation_key(INSTANCE, "1841")]


async def test_who_does_not_know_an_extended_reservation_leaves_its_environment_alone_for_as_long() -> None:
    world = World()
    async with world.served():
        world.send(start())
        world.send(updated(1, end=LATER))
        await world.sleep(COMPARED)
    world.states.clear()
    async with world.served():
        await world.sleep_until(LATER)
        assert world.exists()
        await world.sleep(HOUR)
        assert not world.exists()


async def test_what_could_not_be_told_is_told_next_time() -> None:
    world = World()
    world.docker.fail("extend", Transient("runtime_busy", "Not now."), nth=1)
    world.docker.lose_reply("extend", Transient("runtime_busy", "Who knows."), nth=2)
    async with world.served():
        world.send(start("one"))
        world.send(start("two"))
        await world.sleep(SECOND)
        for name in ("one", "two"):
            world.send(updated(1, name, end=LATER))
        await world.sleep(COMPARED)
        assert len(told(world)) == 2
        await world.sleep(COMPARED)
        assert (shown(world, "one"), shown(world, "two")) == (LATER, LATER)
        assert len(told(world)) == 3
    assert world.letters == []


async def test_a_runtime_that_does_not_answer_is_told_when_it_does() -> None:
    world = World()
    async with world.served():
        world.send(start())
        world.send(updated(1, end=LATER))
        await world.sleep(SECOND)
        world.docker.reachable = False
        await world.sleep(5 * COMPARED)
        world.docker.reachable = True
        await world.sleep(COMPARED)
        assert shown(world) == LATER


async def test_only_who_handles_the_reservation_tells_its_end() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
    own = world.partition_of("1841")
    async with world.served(partitions=[1 - own]) as service:
        world.send(updated(1, end=LATER))
        await world.sleep(2 * COMPARED)
        assert told(world) == []
        await service.gain(own)
        await world.sleep(COMPARED)
        assert shown(world) == LATER


async def test_events_are_handled_while_a_runtime_is_slow_to_take_it_down() -> None:
    world = World()

    async def slow(call: Call) -> None:
        await asyncio.sleep(20.0 if call.operation == "extend" else 0.0)

    world.docker.latency = slow
    async with world.served():
        world.send(start())
        world.send(updated(1, end=LATER))
        await world.sleep(COMPARED)
        assert told(world) != []
        assert shown(world) == END
        world.send(start("other"))
        world.send(end())
        await world.sleep(SECOND)
        assert world.outcomes("other") == [("provisioned", None)]
        assert world.outcomes()[-1] == ("released", None)
        assert not world.exists()
        await world.sleep(2 * COMPARED)
    assert world.letters == []


async def test_what_is_lost_is_found_while_many_ends_are_being_told() -> None:
    world = World()

    async def slow(call: Call) -> None:
        await asyncio.sleep(10.0 if call.operation == "extend" else 0.0)

    world.docker.latency = slow
    names = [str(number) for number in range(80)]
    async with world.served():
        world.send(start("lost", end=LATER))
        for name in names:
            world.send(start(name))
            world.send(updated(1, name, end=LATER))
        await world.sleep(COMPARED)
        world.docker.stop(reservation_key(INSTANCE, "lost"))
        await world.sleep(timedelta(seconds=RECONCILED_AFTER) + 2 * COMPARED)
        assert world.outcomes("lost")[-1] == ("failed", "lost")
        assert len(told(world)) < len(names), "the rest has yet to be told"
        await world.sleep(5 * COMPARED)
        assert {shown(world, name) for name in names} == {LATER}
    assert len(told(world)) == len(names)


async def test_a_few_are_told_at_a_time_and_all_in_the_end() -> None:
    world, under_way, most = World(), 0, 0

    async def counted(call: Call) -> None:
        nonlocal under_way, most
        if call.operation == "extend":
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.5)
            under_way -= 1

    world.docker.latency = counted
    names = [str(number) for number in range(30)]
    async with world.served():
        for name in names:
            world.send(start(name))
            world.send(updated(1, name, end=LATER))
        await world.sleep(COMPARED + 15 * SECOND)
        assert {shown(world, name) for name in names} == {LATER}
    assert most == 4


async def test_what_is_on_another_runtime_is_not_the_reservations_own() -> None:
    world = World()
    async with world.served():
        world.send(start(resource=POD))
        world.send(updated(1, resource=POD, end=LATER))
        await world.sleep(COMPARED)
    assert [call.operation for call in world.podman.calls].count("extend") == 1
    assert told(world) == []


@pytest.mark.parametrize(("due", "calls"), [(-SECOND, 1), (SECOND, 0)])
async def test_what_runs_out_is_renewed_though_the_end_is_the_same(due: timedelta, calls: int) -> None:
    world = World()
    async with world.served() as service:
        state, made = await running(world, service)
        made = replace(made, renew_at=world.now() + due)
        await Ends(service.lifecycle, lambda _: index_of(state), world.now).tell([made])
    assert len(told(world)) == calls


async def test_nothing_is_renewed_once_its_end_is_past() -> None:
    world = World()
    async with world.served() as service:
        state, made = await running(world, service)
        made = replace(made, renew_at=world.now())
        await Ends(service.lifecycle, lambda _: index_of(state), lambda: END).tell([made])
    assert told(world) == []


async def test_nothing_is_told_of_what_is_being_removed() -> None:
    world = World()

    async def slow(call: Call) -> None:
        await asyncio.sleep(20.0 if call.operation == "remove" else 0.0)

    async with world.served() as service:
        state, made = await running(world, service)
        made = replace(made, expires_at=LATER)
        world.docker.latency = slow
        world.send(end())
        await world.sleep(SECOND)
        assert service.lifecycle.removes("1841")
        await Ends(service.lifecycle, lambda _: index_of(state), world.now).tell([made])
        assert told(world) == []


@pytest.mark.parametrize("label", ["expires_at", "renew_at"])
async def test_a_time_that_somebody_wrote_without_an_offset_brings_nothing_down(label: str) -> None:
    world = World()
    async with world.served() as service:
        state, made = await running(world, service)
        bare = moment_of((END + MINUTE).astimezone(UTC).replace(tzinfo=None).isoformat())
        made = replace(made, **{label: bare})
        await Ends(service.lifecycle, lambda _: index_of(state), world.now).tell([made])
    assert len(told(world)) == (label == "expires_at")
