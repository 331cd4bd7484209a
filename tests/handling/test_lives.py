"""A reservation may have several environments, one after the other: what is told of each has ids of its own."""

from datetime import timedelta

from schemas.state import Phase
from tests.handling.stage import Stage
from tests.handling.world import HOUR, MINUTE, SECOND, World, end, start, updated
from tests.reservations.bookings import END, NINE

LATE = END + 5 * HOUR


def ids(world: World, outcome: str) -> list[str]:
    return [each.id for each in world.said if each.outcome == outcome]


async def test_the_end_of_a_postponed_reservation_is_another_release_than_that_of_its_postponement() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
        world.send(updated(1, start=NINE + HOUR, end=LATE))
        await world.sleep(HOUR)
        world.send(end())
        await world.sleep(SECOND)
    assert [outcome for outcome, _ in world.outcomes()] == ["provisioned", "released", "provisioned", "released"]
    assert len(set(ids(world, "released"))) == 2


async def test_what_is_made_again_after_a_loss_is_news_each_time_and_so_is_each_loss() -> None:
    world = World()
    async with world.served():
        for _ in range(3):
            world.send(start(end=LATE))
            await world.sleep(SECOND)
            world.docker.vacate(*world.docker.names())
            await world.sleep(10 * MINUTE)
    assert [outcome for outcome, _ in world.outcomes()] == ["provisioned", "failed"] * 3
    assert len({each.id for each in world.said}) == 6


async def test_an_environment_lost_after_a_failed_start_is_another_failure() -> None:
    world = World(TEMPLATES_REFUSED)
    async with world.served():
        world.send(start(end=LATE))
        await world.sleep(10 * SECOND)
    world.templates = World().templates
    async with world.served():
        world.send(start(end=LATE))
        await world.sleep(SECOND)
        world.docker.vacate(*world.docker.names())
        await world.sleep(10 * MINUTE)
    assert [outcome for outcome, _ in world.outcomes()] == ["failed", "provisioned", "failed"]
    assert len({each.id for each in world.said}) == 3


async def test_a_repetition_after_a_crash_is_of_the_same_life() -> None:
    stage = Stage()
    event = start(end=NINE + timedelta(hours=9))
    await stage.deliver_event(event)
    stage.docker.vacate(*stage.running)
    lost = await stage.crash_after(event)
    told = await stage.deliver_event(event)
    assert lost.ids == told.ids
    assert (stage.state.phase, stage.state.life) == (Phase.ACTIVE, 1)


TEMPLATES_REFUSED = """
version: 1
templates: [{name: pods, match: {type: Pod}, runtime: podman, image: "nginx:1.27"}]
"""
