"""Whatever happens to the engines of a pool and to the service, nothing lives twice, and all of it comes to an end."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumer.catalog.identity import reservation_key
from consumer.handling.errors import Transient, Unavailable
from schemas.state import Phase
from tests.handling.pool import DOUBLE, NAMES, QUEUED, Pool
from tests.handling.world import INSTANCE, MINUTE, end, start
from tests.reservations.bookings import END
from tests.virtual_clock import VirtualClockLoop

pytestmark = pytest.mark.no_cover  # measured, it takes three times as long; others reach what it reaches

Step = tuple[str, str | float]

RESERVATIONS = ("1841", "1842", "1843", "1844", "1845")
LATE = END + timedelta(hours=5)
LOST, FAILED = Unavailable("The reply was lost."), Transient("runtime_error", "It failed.")

engines = st.sampled_from(NAMES)
names = st.sampled_from(RESERVATIONS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("start"), names),
        st.tuples(st.just("queue"), names),
        st.tuples(st.just("end"), names),
        st.tuples(st.sampled_from(("down", "up", "lose", "fail", "refuse")), engines),
        st.tuples(st.sampled_from(("crash", "rebalance")), st.just(0.0)),
        st.tuples(st.just("wait"), st.sampled_from((0.01, 0.06, 0.11, 0.16, 0.3, 2.0, 20.0, 120.0))),
    ),
    max_size=25,
)

CREATED_AND_DOWN: Sequence[Step] = [
    *(("lose", name) for name in NAMES),
    ("start", "1841"),
    ("wait", 0.16),
    *(("down", name) for name in NAMES),
    ("crash", 0.0),
    ("wait", 20.0),
    ("up", "a"),
]


async def take(world: Pool, step: Step) -> None:
    match step:
        case "start" | "queue" as kind, str(name):
            world.send(start(name, resource=DOUBLE if kind == "start" else QUEUED, end=LATE))
        case "end", str(name):
            world.send(end(name, end=LATE))
        case "down" | "up" as what, str(name):
            world.engine(name).reachable = what == "up"
        case "lose", str(name):
            world.engine(name).lose_reply("ensure", LOST)
        case "fail", str(name):
            world.engine(name).fail("find", FAILED)
        case "refuse", str(name):
            world.engine(name).fail("ensure", LOST)
        case "crash", _:
            await world.restarts()
        case "rebalance", _:
            assert world.service is not None
            await world.service.lose(0)
            await world.service.gain(0)
        case "wait", float(seconds):
            await asyncio.sleep(seconds)


async def story(told: Sequence[Step]) -> None:
    world = Pool()
    await world.starts()
    for step in told:
        await take(world, step)
    for name in NAMES:
        world.engine(name).reachable = True
    await world.sleep(20 * MINUTE)
    assert world.violations == []
    running = 0
    for name in RESERVATIONS:
        state = world.state(name)
        holders = {runtime for runtime, each in world.runtimes.items() if each._of(reservation_key(INSTANCE, name))}
        runs = state is not None and state.phase is Phase.ACTIVE
        assert holders == ({state.runtime} if state is not None and runs else set())
        assert state is None or state.placed is None
        running += runs
    for name in RESERVATIONS:
        world.send(end(name, end=LATE))
    await world.sleep(20 * MINUTE)
    assert world.environments == set()
    assert world.violations == []
    assert world.service is not None
    assert world.service.dispatcher.outstanding == 0
    used = [world.service.ledger._used_on(runtime) for runtime in world.runtimes]
    assert used == [0, 0, 0]
    await world.dies()


@settings(max_examples=80)
@given(steps)
@example(CREATED_AND_DOWN)
@example([("start", "1841"), ("wait", 0.16), ("end", "1841")])
@example([("start", "1841"), ("wait", 0.16), ("crash", 0.0), ("end", "1841")])
def test_nothing_lives_twice_and_nothing_is_left(told: Sequence[Step]) -> None:
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(story(told))
