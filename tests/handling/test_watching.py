"""Runtimes tell what ends: it is looked at soon, once, and never because of what Moorage does itself."""

from datetime import timedelta

import pytest

from consumer.catalog.identity import reservation_key
from consumer.handling.ports import Ending
from schemas.events import Resource
from tests.handling.world import HOUR, INSTANCE, KEPT, MINUTE, RECONCILED_AFTER, SECOND, World, end, start
from tests.reservations.bookings import END, SERVER

KEY = reservation_key(INSTANCE, "1841")
RUNS = ("provisioned", None)
LATE = END + 5 * HOUR
SOON = 5 * SECOND


async def running(resource: Resource = SERVER) -> World:
    world = World(watched=True)
    await world.starts()
    world.send(start(resource=resource, end=LATE))
    await world.sleep(SECOND)
    assert world.outcomes() == [RUNS]
    return world


def looks(world: World) -> int:
    return sum(call.operation == "find" for call in world.docker.calls)


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        (Ending(137, out_of_memory=True), "out_of_memory", "more memory than its limit"),
        (Ending(3), "ended", "ended by itself, before the reservation did with exit code 3."),
        (Ending(0), "ended", "ended by itself, before the reservation did."),
        (None, "lost", "no longer there"),
    ],
)
async def test_what_ends_is_told_at_once_and_why(ending: Ending | None, code: str, words: str) -> None:
    world = await running()

    world.docker.stop(KEY, ending)
    await world.sleep(SOON)

    assert world.outcomes() == [RUNS, ("failed", code)]
    assert words in world.notes[-1].message
    assert world.environments == set()
    await world.dies()


async def test_what_somebody_removes_is_told_at_once() -> None:
    world = await running()

    world.docker.vacate(next(iter(world.docker.names())))
    await world.sleep(SOON)

    assert world.outcomes() == [RUNS, ("failed", "lost")]
    await world.dies()


async def test_what_somebody_restarts_is_not_lost() -> None:
    world = await running()

    world.docker.stop(KEY)
    await world.sleep(SECOND)
    for made in world.docker._of(KEY):
        world.docker._start(made)
    await world.sleep(HOUR)

    assert world.outcomes() == [RUNS]
    await world.dies()


async def test_what_is_to_be_kept_is_made_again_at_once_but_not_again_and_again() -> None:
    world = await running(KEPT)

    world.docker.stop(KEY)
    await world.sleep(SOON)
    assert world.outcomes() == [RUNS, RUNS]
    world.docker.stop(KEY)
    await world.sleep(timedelta(seconds=RECONCILED_AFTER) - 10 * SECOND)
    assert world.outcomes() == [RUNS, RUNS]
    await world.sleep(5 * MINUTE)
    assert world.outcomes() == [RUNS, RUNS, RUNS]
    await world.dies()


async def test_an_end_causes_no_second_look() -> None:
    world = await running()
    before = looks(world)

    world.send(end())
    await world.sleep(SOON)

    assert world.outcomes() == [RUNS, ("released", None)]
    assert looks(world) == before
    await world.dies()


async def test_what_ended_while_its_runtime_did_not_answer_is_found_by_comparison() -> None:
    world = await running()

    world.docker.reachable = False
    world.docker.stop(KEY)
    await world.sleep(SOON)
    world.docker.reachable = True
    await world.sleep(MINUTE)
    assert world.outcomes() == [RUNS]
    await world.sleep(10 * MINUTE)
    assert world.outcomes() == [RUNS, ("failed", "lost")]
    await world.dies()
