"""Several engines in a pool: spread, capacity, and one that is down stops nobody but what is on it."""

from datetime import timedelta

import pytest

from consumer.catalog.identity import reservation_key
from consumer.handling.errors import Permanent, Unavailable
from schemas.events import Resource
from schemas.state import Phase
from tests.handling.pool import DOUBLE, LONELY, NAMES, QUEUED, TEMPLATES, Pool
from tests.handling.world import HOUR, INSTANCE, MINUTE, RECONCILED_AFTER, SECOND, created, end, start, updated
from tests.reservations.bookings import BOB, END

LATE = END + 5 * HOUR
RUNS = ("provisioned", None)
ENDED = ("released", None)
KEY = reservation_key(INSTANCE, "1841")


def book(world: Pool, *names: str, resource: Resource = DOUBLE) -> None:
    for name in names:
        world.send(start(name, resource=resource, end=LATE))


async def test_environments_are_spread_by_what_engines_can_hold() -> None:
    world = Pool()
    async with world.served():
        for number in range(8):
            book(world, f"r{number}")
            await world.sleep(SECOND)
            assert max(world.counts()[0], world.counts()[1]) <= (number + 4) // 4
        assert world.counts() == (2, 2, 4)
        assert world.violations == []


async def test_starts_at_the_same_moment_do_not_overshoot() -> None:
    world = Pool()
    async with world.served():
        book(world, *(f"r{number}" for number in range(12)))
        await world.sleep(10 * SECOND)
        assert world.counts() == (2, 2, 4)
        outcomes = [each.outcome for each in world.said]
        assert (outcomes.count("provisioned"), outcomes.count("failed")) == (8, 4)
        assert {each.reason for each in world.said if each.outcome == "failed"} == {"no_capacity"}
        assert not world.letters


async def test_results_and_the_state_name_the_engine_and_an_end_finds_it() -> None:
    world = Pool()
    async with world.served():
        book(world, "1841")
        await world.sleep(SECOND)
        state = world.state()
        assert state is not None
        assert state.runtime in world.runtimes
        assert state.placed is None
        assert len(world.runtimes[state.runtime].names()) == 1
        world.send(end())
        await world.sleep(SECOND)
        assert world.outcomes() == [RUNS, ENDED]
        assert world.environments == set()


async def test_the_same_reservation_prefers_the_same_engine_and_others_prefer_others() -> None:
    chosen: dict[str, set[str | None]] = {}
    for _ in range(2):
        for number in range(12):
            world = Pool()
            async with world.served():
                book(world, f"r{number}")
                await world.sleep(SECOND)
                chosen.setdefault(f"r{number}", set()).add(world.where(f"r{number}"))
    assert all(len(engines) == 1 for engines in chosen.values())
    assert {engine for engines in chosen.values() for engine in engines} == set(NAMES)


async def test_who_queues_for_a_full_pool_comes_in_turn() -> None:
    world = Pool()
    async with world.served():
        book(world, "r0", "r1", "r2", "r3", resource=QUEUED)
        await world.sleep(5 * SECOND)
        book(world, "first", resource=QUEUED)
        await world.sleep(10 * SECOND)
        book(world, "second", resource=QUEUED)
        await world.sleep(10 * SECOND)
        assert world.outcomes("first") == world.outcomes("second") == []
        world.send(end("r2", resource=QUEUED))
        await world.sleep(20 * SECOND)
        assert world.outcomes("first") == [RUNS]
        assert world.outcomes("second") == []
        world.send(end("first", resource=QUEUED))
        await world.sleep(20 * SECOND)
        assert world.outcomes("second") == [RUNS]


async def test_an_engine_that_is_down_stops_nobody_else() -> None:
    world = Pool()
    async with world.served():
        book(world, "r0", "r1", "r2", "r3")
        await world.sleep(SECOND)
        down = world.where("r0")
        assert down is not None
        world.engine(down).reachable = False

        book(world, "r4", "r5")
        await world.sleep(MINUTE)
        assert world.outcomes("r4") == world.outcomes("r5") == [RUNS]
        assert down not in (world.where("r4"), world.where("r5"))

        for name in ("r0", "r4", "r5"):
            world.send(end(name, resource=DOUBLE))
        await world.sleep(MINUTE)
        assert world.outcomes("r4") == world.outcomes("r5") == [RUNS, ENDED]
        assert world.outcomes("r0") == [RUNS]  # only its engine can remove it

        world.engine(down).reachable = True
        await world.sleep(5 * MINUTE)
        assert world.outcomes("r0") == [RUNS, ENDED]
        assert world.violations == []
        assert not world.letters


async def test_an_engine_that_hangs_stops_nobody_for_long() -> None:
    world = Pool()
    async with world.served():
        world.engine("c").latency = 10_000.0
        book(world, "r0", "r1")
        await world.sleep(MINUTE)
        assert world.outcomes("r0") == world.outcomes("r1") == [RUNS]
        begun = world.now()
        book(world, "r2")
        world.send(end("r0", resource=DOUBLE))
        world.send(end("never", resource=DOUBLE))
        await world.sleep(MINUTE)
        assert [each.outcome for each in world.said[2:]] == ["released", "skipped", "provisioned"]
        assert world.said[-1].at - begun < 15 * SECOND


async def test_what_is_down_has_no_room() -> None:
    world = Pool()
    async with world.served():
        world.engine("c").reachable = False
        book(world, *(f"r{number}" for number in range(6)))
        await world.sleep(MINUTE)
        assert world.counts() == (2, 2, 0)
        assert [each.reason for each in world.said if each.outcome == "failed"] == ["no_capacity"] * 2


async def test_when_an_engine_is_back_it_is_used_again() -> None:
    world = Pool()
    async with world.served():
        world.engine("c").reachable = False
        book(world, "r0", "r1")
        await world.sleep(MINUTE)
        assert world.counts() == (1, 1, 0)
        world.engine("c").reachable = True
        await world.sleep(5 * MINUTE)
        book(world, "r2")
        await world.sleep(MINUTE)
        assert world.counts() == (1, 1, 1)


async def test_what_was_begun_on_no_engine_yet_goes_to_another() -> None:
    world = Pool()
    async with world.served():
        book(world, "1841")
        while (state := world.state()) is None or state.placed is None:
            await world.sleep(timedelta(milliseconds=1))
        world.runtimes[state.placed].reachable = False  # it had answered that it has nothing
        await world.sleep(MINUTE)
        assert world.outcomes() == [RUNS]
        assert world.state().runtime != state.placed  # type: ignore[union-attr]
        assert world.violations == []


async def test_what_may_have_been_made_stays_with_its_engine() -> None:
    """The environment was created, the reply lost, and then the engine went down."""
    world = Pool()
    for engine in world.runtimes.values():
        engine.lose_reply("ensure", Unavailable("The reply was lost."))
    async with world.served():
        book(world, "1841")
        while not world.environments:
            await world.sleep(timedelta(milliseconds=1))
        (made,) = (name for name in NAMES if world.engine(name).names())
        world.engine(made).reachable = False
        await world.sleep(10 * MINUTE)
        assert world.outcomes() == []  # the others have room, but two could live
        world.engine(made).reachable = True
        await world.sleep(5 * MINUTE)
        assert world.outcomes() == [RUNS]
        assert world.where() == made
        assert world.violations == []


@pytest.mark.parametrize("down", [False, True])
async def test_a_start_that_a_crash_cut_off_goes_on_where_it_began(down: bool) -> None:
    world = Pool()
    await world.starts()
    book(world, "1841")
    while not world.environments:
        await world.sleep(timedelta(milliseconds=1))
    (made,) = (name for name in NAMES if world.engine(name).names())
    await world.dies()
    assert world.outcomes() == []
    world.engine(made).reachable = not down

    async with world.served():
        await world.sleep(10 * MINUTE)
        assert world.outcomes() == ([] if down else [RUNS])
        world.engine(made).reachable = True
        await world.sleep(5 * MINUTE)
        assert world.outcomes() == [RUNS]
        assert world.where() == made
        assert world.violations == []


async def test_what_runs_is_found_when_the_state_was_lost() -> None:
    world = Pool()
    await world.starts()
    book(world, "1841")
    await world.sleep(SECOND)
    made = world.where()
    await world.dies()
    world.states.clear()
    world.committed.clear()
    async with world.served():
        await world.sleep(MINUTE)
        assert world.where() == made
        assert world.violations == []
        assert sum(world.counts()) == 1


async def test_what_was_found_stays_where_it_is_when_its_engine_goes_down_then() -> None:
    world = Pool()
    await world.starts()
    book(world, "1841")
    await world.sleep(SECOND)
    made = str(world.where())
    await world.dies()
    world.states.clear()
    world.committed.clear()
    async with world.served():
        while (state := world.state()) is None or state.placed is None:
            await world.sleep(timedelta(milliseconds=1))
        world.engine(made).reachable = False
        await world.sleep(10 * MINUTE)
        assert sum(world.counts()) == 1
        world.engine(made).reachable = True
        await world.sleep(5 * MINUTE)
        assert world.where() == made
        assert world.violations == []


async def test_an_engine_that_is_taken_out_of_the_file_is_waited_for_no_longer() -> None:
    world = Pool()
    await world.starts()
    book(world, "1841")
    while (state := world.state()) is None or state.placed is None:
        await world.sleep(timedelta(milliseconds=1))
    await world.dies()
    dead = state.placed
    world.runtimes[dead].reachable = False
    async with world.served():
        await world.sleep(10 * MINUTE)
        assert world.outcomes() == []
    others = [name for name in NAMES if f"docker@{name}" != dead]
    world.templates = "\n".join(line for line in TEMPLATES.splitlines() if f"name: {dead[-1]}," not in line)
    world.templates = world.templates.replace("[a, b, c]", f"[{', '.join(others)}]").replace(" [a]", f" [{others[0]}]")
    world.templates = world.templates.replace(" [a, b]", f" [{others[0]}]")
    del world.pool[dead]
    async with world.served():
        await world.sleep(MINUTE)
        assert world.outcomes() == [RUNS]
        assert world.where() in others


async def test_a_booking_that_never_started_ends_while_an_engine_is_down() -> None:
    world = Pool()
    async with world.served():
        world.engine("a").reachable = False
        world.send(created("1841", resource=DOUBLE))
        world.send(end("1841", resource=DOUBLE))
        world.send(end("unknown", resource=DOUBLE))
        await world.sleep(MINUTE)
        nothing = [("skipped", "nothing_to_release")]
        assert world.outcomes("1841")[1:] == world.outcomes("unknown") == nothing


async def test_what_is_lost_and_what_is_left_over_is_dealt_with_while_an_engine_is_down() -> None:
    world = Pool()
    async with world.served():
        book(world, "r0", "r1", "r2", "r3", "r4")
        await world.sleep(SECOND)
        gone, hidden = "r0", next(f"r{n}" for n in range(1, 5) if world.where(f"r{n}") != world.where("r0"))
        world.engine(str(world.where(hidden))).reachable = False
        lost = world.engine(str(world.where(gone)))
        lost.stop(reservation_key(INSTANCE, gone))
        await world.sleep(5 * MINUTE)
        assert world.outcomes(gone) == [RUNS, ("failed", "lost")]
        assert world.outcomes(hidden) == [RUNS]
        assert lost._of(reservation_key(INSTANCE, gone)) == []


async def test_what_strayed_is_removed_and_the_environment_stays() -> None:
    world = Pool()
    async with world.served():
        book(world, "1841")
        await world.sleep(SECOND)
        home = str(world.where())
        other = next(name for name in NAMES if name != home)
        world.engine(other)._create(world.engine(home).spec_of(KEY), INSTANCE)
        await world.sleep(timedelta(seconds=3 * RECONCILED_AFTER))
        assert world.engine(other).names() == set()
        assert len(world.engine(home).names()) == 1
        assert world.outcomes() == [RUNS]


async def test_a_move_into_a_pool_is_placed_there() -> None:
    world = Pool()
    async with world.served():
        book(world, "1841", resource=LONELY)
        await world.sleep(SECOND)
        assert world.where() == "a"
        world.send(updated(1, resource=DOUBLE, user=BOB, end=LATE))
        await world.sleep(MINUTE)
        assert world.outcomes() == [RUNS, ("released", "moved"), RUNS]
        assert len({each.id for each in world.said}) == 3
        state = world.state()
        assert state is not None
        assert (state.phase, state.resource.id, state.placed) == (Phase.ACTIVE, DOUBLE.id, None)
        assert sum(world.counts()) == 1
        assert world.violations == []


async def test_an_engine_that_templates_no_longer_use_keeps_what_it_has() -> None:
    world = Pool()
    await world.starts()
    book(world, "1841")
    await world.sleep(SECOND)
    made = str(world.where())
    await world.sleep(10 * SECOND)
    await world.dies()
    others = ", ".join(name for name in NAMES if name != made)
    world.templates = TEMPLATES.replace("engines: [a, b, c]", f"engines: [{others}]")
    async with world.served():
        book(world, "1841", "r1", "r2", "r3")
        await world.sleep(MINUTE)
        assert world.outcomes() == [RUNS, RUNS]
        assert world.where() == made
        assert len(world.engine(made).names()) == 1
        world.send(end(resource=DOUBLE))
        await world.sleep(MINUTE)
        assert world.engine(made).names() == set()


async def test_all_engines_down_is_waited_for() -> None:
    world = Pool()
    async with world.served():
        for name in NAMES:
            world.engine(name).reachable = False
        book(world, "r0", "r1", "r2", "r3", "r4")
        await world.sleep(10 * MINUTE)
        assert world.said == []
        world.engine("b").reachable = True
        await world.sleep(5 * MINUTE)
        assert world.counts() == (0, 2, 0)
        for name in NAMES:
            world.engine(name).reachable = True
        await world.sleep(5 * MINUTE)
        assert len(world.environments) >= 2
        assert world.violations == []


async def test_what_is_placed_is_newer_than_what_was_remembered() -> None:
    """Of two states in different partitions the newer one counts."""
    world = Pool()
    async with world.served():
        world.send(created("1841", resource=DOUBLE))
        await world.sleep(SECOND)
        before = world.state()
        book(world, "1841")
        while (state := world.state()) is None or state.placed is None:
            await world.sleep(timedelta(milliseconds=1))
        assert before is not None
        assert state.changed_at > before.changed_at


async def test_a_start_that_can_go_nowhere_else_waits_for_the_engine_of_its_volume() -> None:
    world = Pool(TEMPLATES.replace("ports: 80}", "ports: 80, volume: {path: /data, scope: reservation}}"))
    async with world.served():
        book(world, "1841", *(f"r{number}" for number in range(7)))
        await world.sleep(MINUTE)
        made = str(world.where())
        world.engine(made).stop(KEY)
        await world.sleep(3 * MINUTE)
        assert world.outcomes() == [RUNS, ("failed", "lost")]
        world.engine(made).reachable = False
        for number in range(7):
            world.send(end(f"r{number}", resource=DOUBLE))
        await world.sleep(MINUTE)
        others = [world.engine(name).calls for name in NAMES if name != made]
        asked = sum(map(len, others))
        book(world, "1841")
        await world.sleep(10 * MINUTE)
        assert world.outcomes() == [RUNS, ("failed", "lost")]
        assert sum(map(len, others)) - asked < 100  # the reconciliation's, above all
        world.engine(made).reachable = True
        await world.sleep(5 * MINUTE)
        assert world.outcomes() == [RUNS, ("failed", "lost"), RUNS]
        assert world.where() == made


async def test_the_ends_of_what_an_engine_lost_wait_for_its_breaker() -> None:
    world = Pool()
    async with world.served():
        book(world, *(f"r{number}" for number in range(8)))
        await world.sleep(SECOND)
        there = [f"r{number}" for number in range(8) if world.where(f"r{number}") == "c"]
        for name in there:
            world.engine("c").stop(reservation_key(INSTANCE, name))
        await world.sleep(5 * MINUTE)
        assert {world.outcomes(name)[-1] for name in there} == {("failed", "lost")}
        world.engine("c").reachable = False
        asked = len(world.engine("c").calls)
        for name in there:
            world.send(end(name, resource=DOUBLE))
        await world.sleep(10 * MINUTE)
        assert len(world.engine("c").calls) - asked < 300
        world.engine("c").reachable = True
        await world.sleep(5 * MINUTE)
        assert {world.outcomes(name)[-1] for name in there} == {("skipped", "nothing_to_release")}


async def test_what_may_be_left_of_a_failure_is_not_made_elsewhere_while_its_engine_is_down() -> None:
    world = Pool()
    async with world.served():
        book(world, "1841")
        await world.sleep(SECOND)
        made = world.engine(str(world.where()))
        made.stop(KEY)
        made.fail("ensure", Permanent("start_timeout", "It did not come up."))
        made.fail("remove", Permanent("runtime_error", "It does not go."))
        book(world, "1841")
        await world.sleep(SECOND)
        state = world.state()
        assert state is not None
        assert (state.phase, world.runtimes[str(state.placed)]) == (Phase.FAILED, made)
        made.reachable = False
        world.send(updated(1, resource=DOUBLE, end=LATE + HOUR))
        await world.sleep(10 * MINUTE)
        assert sum(world.counts()) == 1
        made.reachable = True
        await world.sleep(5 * MINUTE)
        assert sum(world.counts()) <= 1
        assert world.violations == []


async def test_who_waits_for_room_asks_no_engine_meanwhile() -> None:
    world = Pool()
    async with world.served():
        book(world, "r0", "r1", "r2", "r3", resource=QUEUED)
        await world.sleep(5 * SECOND)
        book(world, "first", "second", resource=QUEUED)
        await world.sleep(10 * SECOND)
        asked = [sum(call.operation == "find" for call in world.engine(name).calls) for name in NAMES]
        await world.sleep(10 * MINUTE)
        assert [sum(call.operation == "find" for call in world.engine(name).calls) for name in NAMES] == asked
        assert world.outcomes("first") == world.outcomes("second") == []


async def test_of_two_that_were_found_the_one_that_runs_counts() -> None:
    world = Pool()
    await world.starts()
    book(world, "1841", "r1")
    await world.sleep(SECOND)
    made = str(world.where())
    (other,) = (name for name in NAMES if name not in (made, world.where("r1")))
    await world.dies()
    world.engine(other)._create(world.engine(made).spec_of(KEY), INSTANCE)
    world.engine(other).stop(KEY)
    world.violations.clear()
    world.states.clear()
    world.committed.clear()
    async with world.served():
        await world.sleep(10 * MINUTE)
        assert world.where() == made
        assert len(world.engine(other).names()) == 0
