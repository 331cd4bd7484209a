"""A backend that does not answer: its work waits, a few try, and nobody else notices."""

import asyncio
import random
from itertools import pairwise

import pytest

from consumer.dispatch import BreakerPolicy, Done, Outage, Retry, Work
from consumer.dispatch.breaker import Breaker, State
from tests.dispatch.scene import Ack, Job, Scene, now, partition, scene

LONG = 10_000.0
NEVER = (Outage(),)


def policy(
    *, threshold: int = 3, probes: int = 2, open_for: float = 10.0, max_open_for: float = LONG, seed: int = 1
) -> BreakerPolicy:
    rng = random.Random(seed)  # noqa: S311 - the same waits every time
    return BreakerPolicy(threshold, probes, open_for, max_open_for, rng)


def by_key(work: Work[Job]) -> str | None:
    """The key `docker 7` is of the group `docker`, and `7` of none."""
    name, *number = str(work.key).split()
    return name if number else None


def starts(stage: Scene, *, of: str = "docker") -> list[float]:
    return [time for time, event, name in stage.log if event == "start" and name.startswith(of)]


def rounds(stage: Scene) -> list[list[float]]:
    """The starts, divided where nothing started for more than two seconds."""
    times = starts(stage)
    divided = [[times[0]]]
    for earlier, later in pairwise(times):
        if later - earlier > 2:
            divided.append([])
        divided[-1].append(later)
    return divided


# The breaker itself


def test_it_opens_at_so_many_failures_in_a_row() -> None:
    breaker = Breaker(policy(threshold=3))
    assert [breaker.failed(), breaker.failed()] == [None, None]
    assert not breaker.succeeded()  # nothing changed by it
    assert [breaker.failed(), breaker.failed()] == [None, None]
    assert (breaker.state, breaker.slots(64)) == (State.CLOSED, 64)
    assert breaker.failed() is not None
    assert (breaker.state, breaker.slots(64)) == (State.OPEN, 0)


def test_what_began_before_it_opened_and_fails_afterwards_does_not_open_it_for_longer() -> None:
    breaker = Breaker(policy(threshold=1))
    assert [breaker.failed() is None for _ in range(5)] == [False, True, True, True, True]
    breaker.half_open()
    assert breaker.failed() <= 20.0  # type: ignore[operator]


@pytest.mark.parametrize(("limit", "slots"), [(64, 2), (2, 2), (1, 1)])
def test_half_open_it_leaves_slots_for_its_probes_and_never_more_than_there_are(limit: int, slots: int) -> None:
    breaker = Breaker(policy(threshold=1, probes=2))
    breaker.failed()
    breaker.half_open()
    assert (breaker.state, breaker.slots(limit)) == (State.HALF_OPEN, slots)


def test_one_success_closes_it_and_makes_it_forget() -> None:
    breaker = Breaker(policy(threshold=2, open_for=10.0))
    breaker.failed()
    breaker.failed()
    breaker.half_open()
    breaker.failed()
    breaker.half_open()
    assert breaker.succeeded()
    assert (breaker.state, breaker.slots(64)) == (State.CLOSED, 64)
    assert breaker.failed() is None
    assert breaker.failed() <= 10.0  # type: ignore[operator]


def test_a_probe_that_fails_after_another_succeeded_is_only_the_first_of_some_failures() -> None:
    breaker = Breaker(policy(threshold=2))
    breaker.failed()
    breaker.failed()
    breaker.half_open()
    assert breaker.succeeded()
    assert (breaker.failed(), breaker.state) == (None, State.CLOSED)


def test_each_opening_lasts_twice_as_long_up_to_a_maximum_and_is_jittered_within_its_upper_half() -> None:
    measured: list[list[float]] = []
    for seed in range(500):
        breaker = Breaker(policy(threshold=1, open_for=5.0, max_open_for=60.0, seed=seed))
        openings = []
        for _ in range(7):
            openings.append(breaker.failed() or 0.0)
            breaker.half_open()
        measured.append(openings)
    for openings, ceiling in zip(zip(*measured, strict=True), [5, 10, 20, 40, 60, 60, 60], strict=True):
        assert ceiling / 2 <= min(openings) < 0.52 * ceiling
        assert 0.98 * ceiling < max(openings) <= ceiling


def test_however_often_it_opened_the_next_time_can_be_computed() -> None:
    breaker = Breaker(policy(threshold=1, open_for=60.0, max_open_for=60.0))
    for _ in range(5000):
        assert 30.0 <= (breaker.failed() or 0.0) <= 60.0
        breaker.half_open()


# With work


async def test_after_so_many_outages_nothing_of_the_group_is_started_any_more() -> None:
    assignment = partition()
    async with scene(group_of=by_key, breakers=policy(threshold=5, open_for=10.0), concurrency=1) as stage:
        for number in range(20):
            stage.admit(assignment, f"docker {number}", Job(f"docker {number}", takes=0.1, endings=NEVER))
        assert stage.dispatcher.outages == ()
        await asyncio.sleep(4.9)  # an opening lasts five at least
        assert len(starts(stage)) == 5
        assert (stage.dispatcher.outages, stage.dispatcher.outstanding) == (("docker",), 20)
        await stage.dispatcher.drain([assignment], 0)


async def test_a_success_in_between_keeps_it_closed() -> None:
    assignment = partition()
    async with scene(group_of=by_key, breakers=policy(threshold=3), concurrency=1) as stage:
        for number in range(30):
            endings = (Done(),) if number % 3 == 2 else (Outage(), Done())
            stage.admit(assignment, f"docker {number}", Job(f"docker {number}", takes=None, endings=endings))
        await asyncio.sleep(0)
        assert (len(starts(stage)), stage.dispatcher.outages) == (30, ())
        await stage.settle()


@pytest.mark.parametrize("ending", [Retry(1), Done((Ack(5),))], ids=["retry", "publishing"])
async def test_a_backend_that_answers_with_an_error_does_answer(ending: Retry | Done[Ack]) -> None:
    async with scene(group_of=by_key, breakers=policy(threshold=2), concurrency=1) as stage:
        for number in range(10):
            endings = (ending, Done()) if number % 2 else (Outage(), Done())
            stage.admit(partition(), f"docker {number}", Job(f"docker {number}", takes=None, endings=endings))
        await asyncio.sleep(0)
        assert (len(starts(stage)), stage.dispatcher.outages) == (10, ())
        await stage.settle()


async def test_a_defect_of_the_handler_says_nothing_about_the_backend() -> None:
    crash = ValueError("a defect")
    async with scene(group_of=by_key, breakers=policy(threshold=3), concurrency=1) as stage:
        for number, first in enumerate([Outage(), crash, Outage(), crash, Outage()]):
            stage.admit(partition(), f"docker {number}", Job(f"docker {number}", takes=None, endings=(first, Done())))
        await asyncio.sleep(0)
        assert stage.dispatcher.outages == ("docker",)
        await stage.settle()
        assert stage.dispatcher.outages == ()


async def test_the_work_of_other_groups_goes_on_meanwhile() -> None:
    assignment = partition()
    async with scene(group_of=by_key, breakers=policy(threshold=1), concurrency=2) as stage:
        for number in range(100):
            stage.admit(assignment, f"docker {number}", Job(f"docker {number}", takes=1, endings=NEVER))
            stage.admit(assignment, f"kubernetes {number}", Job(f"kubernetes {number}", takes=1))
            stage.admit(assignment, number, Job(f"unnamed {number}", takes=1))
        await asyncio.sleep(150)
        assert len([name for name in stage.happened("end") if not name.startswith("docker")]) == 200
        assert (stage.dispatcher.outages, stage.dispatcher.outstanding) == (("docker",), 100)
        await stage.dispatcher.drain([assignment], 0)


async def test_attempts_and_time_are_not_counted_while_the_backend_does_not_answer() -> None:
    endings = (Retry(1), *[Outage()] * 6, Retry(5), Done())
    async with scene(group_of=by_key, breakers=policy(threshold=2)) as stage:
        stage.admit(partition(), "docker 1", Job("patient", endings=endings))
        await stage.settle()
        assert stage.attempts == [
            ("patient", 1, 0),
            ("patient", 2, 1),
            *[("patient", 1, 0)] * 6,
            ("patient", 2, 5),
        ]
        assert now() > 100


async def test_half_open_it_lets_few_try_and_fails_with_the_first_of_them() -> None:
    assignment = partition()
    async with scene(
        group_of=by_key, breakers=policy(threshold=3, probes=2, open_for=10.0, max_open_for=80.0)
    ) as stage:
        for number in range(50):
            stage.admit(
                assignment, f"docker {number}", Job(f"docker {number}", takes=0.1 + number / 1e6, endings=NEVER)
            )
        await asyncio.sleep(3600)
        assert stage.most_running["docker"] == 50  # before it was known
        first, *later = rounds(stage)
        assert len(first) == 50
        assert {len(each) for each in later} == {2}
        pauses = [after[0] - before[0] for before, after in pairwise(rounds(stage))]
        for pause, ceiling in zip(pauses, [10, 20, 40, *[80] * 100], strict=False):
            assert ceiling / 2 <= pause - 0.1 <= ceiling + 0.1
        await stage.dispatcher.drain([assignment], 0)


async def test_a_probe_that_succeeds_closes_it_and_everything_runs() -> None:
    async with scene(group_of=by_key, breakers=policy(threshold=3, probes=2)) as stage:
        for number in range(50):
            job = Job(f"docker {number}", takes=1, endings=(Outage(), Done()))
            stage.admit(partition(), f"docker {number}", job)
        await asyncio.sleep(1.5)
        assert stage.dispatcher.outages == ("docker",)
        await stage.settle()
        _, *after = rounds(stage)
        begin = after[0][0]
        assert 5 <= begin - 1 <= 10
        assert sorted(time - begin for time in after[0]) == [0] * 2 + [pytest.approx(1)] * 48
        assert stage.dispatcher.outages == ()


async def test_what_was_running_when_it_opened_may_close_it_again() -> None:
    async with scene(group_of=by_key, breakers=policy(threshold=2, open_for=12.0)) as stage:
        stage.admit(partition(), "docker slow", Job("docker slow", takes=5))
        for number in range(4):
            stage.admit(partition(), f"docker {number}", Job(f"docker {number}", takes=1, endings=(Outage(), Done())))
        await asyncio.sleep(4)
        assert stage.dispatcher.outages == ("docker",)
        await asyncio.sleep(2.5)
        assert (stage.dispatcher.outages, stage.dispatcher.outstanding) == ((), 0)


async def test_a_breaker_that_is_half_open_waits_for_work_to_try_with() -> None:
    gone, coming = partition(epoch=1), partition(epoch=2)
    async with scene(group_of=by_key, breakers=policy(threshold=1)) as stage:
        stage.admit(gone, "docker 1", Job("gone", endings=NEVER))
        await asyncio.sleep(1)
        await stage.dispatcher.drain([gone], 0)
        await asyncio.sleep(LONG)
        assert stage.dispatcher.outages == ("docker",)
        stage.admit(coming, "docker 1", Job("coming"))
        await asyncio.sleep(1)
        assert (stage.dispatcher.outages, stage.happened("end")) == ((), ["gone", "coming"])


async def test_an_outage_of_another_group_opens_that_one_and_only_parks_the_work() -> None:
    assignment = partition()
    async with scene(group_of=by_key, breakers=policy(threshold=3, open_for=10.0), concurrency=1) as stage:
        moves = Job("moves", takes=0.1, endings=(*[Outage("kubernetes")] * 3, Done()))
        stage.admit(assignment, "docker 1", moves)
        stage.admit(assignment, "docker 2", Job("stays", takes=0.1))
        await asyncio.sleep(0.15)
        assert (stage.dispatcher.outages, stage.dispatcher.parked) == ((), 1)
        await asyncio.sleep(6.0)  # each wait is at most a fifth of an opening
        assert stage.happened("end") == ["moves", "stays", "moves", "moves", "moves"]
        assert stage.dispatcher.outages == ("kubernetes",)
        await asyncio.sleep(LONG)
        assert stage.happened("end") == ["moves", "stays", "moves", "moves", "moves"]
        stage.admit(assignment, "kubernetes 1", "waits for nobody")
        await asyncio.sleep(1)
        assert (stage.dispatcher.outages, stage.dispatcher.outstanding) == ((), 0)


async def test_work_of_a_group_that_another_one_opened_waits() -> None:
    assignment = partition()
    async with scene(group_of=by_key, breakers=policy(threshold=1, open_for=100.0), concurrency=1) as stage:
        stage.admit(assignment, "docker 1", Job("moves", endings=(Outage("kubernetes"), Done())))
        await asyncio.sleep(1)
        assert stage.dispatcher.outages == ("kubernetes",)
        stage.admit(assignment, "kubernetes 1", "waits")
        await asyncio.sleep(48)
        assert stage.happened("end") == ["moves", "moves"]
        await stage.settle()
        assert 50 <= stage.times()["waits"] <= 100


@pytest.mark.parametrize("ending", [Outage(), Outage("")], ids=["of its own", "of a group with an empty name"])
async def test_the_group_without_a_name_has_no_breaker_and_no_hot_loop_either(ending: Outage) -> None:
    assignment = partition()
    async with scene(group_of=by_key, breakers=policy(threshold=1, open_for=5.0)) as stage:
        stage.admit(assignment, "1", Job("stuck", endings=(ending,)))
        await asyncio.sleep(1000)
        assert stage.dispatcher.outages == ()
        assert 1000 < len(stage.happened()) < 4000  # a wait is half a second on average
        stage.admit(assignment, "2", "fine")
        await asyncio.sleep(0.001)
        assert "fine" in stage.happened("end")
        await stage.dispatcher.drain([assignment], 0)


async def test_before_it_opens_work_waits_a_little_and_counts_as_parked() -> None:
    assignment = partition()
    async with scene(group_of=by_key, breakers=policy(threshold=100, open_for=5.0)) as stage:
        for number in range(50):
            stage.admit(assignment, f"docker {number}", Job(f"docker {number}", endings=(Outage(), Done())))
        await asyncio.sleep(0.001)
        assert stage.dispatcher.parked == pytest.approx(50, abs=2)
        await asyncio.sleep(1.0)
        assert (stage.dispatcher.parked, stage.dispatcher.outstanding) == (0, 0)


async def test_while_it_is_open_its_work_is_given_up_at_once_when_the_partition_is_left() -> None:
    leaving, staying = partition(1), partition(2)
    async with scene(group_of=by_key, breakers=policy(threshold=1, open_for=1000.0)) as stage:
        for assignment in (leaving, staying):
            for number in range(10):
                stage.admit(
                    assignment, f"docker {assignment}{number}", Job("docker", takes=1, endings=(Outage(), Done()))
                )
            stage.admit(assignment, f"docker {assignment}", "docker queued")
        await asyncio.sleep(2)
        before = now()
        assert await stage.dispatcher.drain([leaving], 60) == []
        assert (now(), leaving.outstanding, leaving.watermark.position) == (before, 0, 0)
        assert staying.outstanding == 10
        await stage.settle()
        assert staying.watermark.position == 11
        assert leaving.watermark.position == 0


async def test_an_outage_while_the_partition_is_left_gives_the_work_up() -> None:
    assignment = partition()
    async with scene(group_of=by_key, breakers=policy(threshold=2, open_for=1000.0)) as stage:
        for number in range(4):
            stage.admit(
                assignment, f"docker {number}", Job(f"docker {number}", takes=1 + number, endings=NEVER), "next"
            )
        await asyncio.sleep(0.5)
        assert await stage.dispatcher.drain([assignment], 60) == []
        assert (now(), stage.dispatcher.outstanding, assignment.watermark.position) == (4, 0, 0)
        assert stage.happened() == [f"docker {number}" for number in range(4)]


async def test_a_partition_that_comes_back_finds_the_breaker_as_it_is() -> None:
    first, second = partition(epoch=1), partition(epoch=2)
    async with scene(group_of=by_key, breakers=policy(threshold=1, open_for=100.0)) as stage:
        stage.admit(first, "docker 1", Job("first", endings=NEVER), "behind it")
        await asyncio.sleep(1)
        await stage.dispatcher.drain([first], 60)
        stage.admit(second, "docker 1", "again", "behind it again")
        await asyncio.sleep(40)
        assert stage.happened() == ["first"]
        await stage.settle()
        assert stage.happened() == ["first", "again", "behind it again"]
        assert (first.watermark.position, second.watermark.position) == (0, 2)


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_and_nothing_overtakes_its_key_however_a_backend_comes_and_goes(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - the same story every time
    assignment = partition()
    breakers = policy(threshold=draw.choice([1, 3]), probes=draw.choice([1, 2]), open_for=draw.choice([1.0, 30.0]))
    async with scene(group_of=by_key, breakers=breakers, concurrency=draw.choice([1, 4, 64])) as stage:
        for number in range(120):
            key = f"{draw.choice(['docker', 'kubernetes'])} {draw.randrange(10)}"
            troubles = [
                draw.choice([Outage(), Outage("kubernetes"), Retry(1.0)]) for _ in range(draw.choice([0, 0, 1, 4]))
            ]
            stage.admit(
                assignment, key, Job(f"{key}: {number}", takes=draw.random(), endings=(*troubles, Done((Ack(0.1),))))
            )
        await stage.settle()
        assert assignment.watermark.position == 120
        assert len(set(stage.happened("end"))) == 120
        for key in {name.split(":")[0] for name in stage.happened()}:
            order = [int(name.split()[-1]) for name in stage.happened() if name.startswith(f"{key}:")]
            assert order == sorted(order)


async def test_a_dispatcher_that_ends_leaves_no_timers_of_breakers() -> None:
    async with scene(group_of=by_key, breakers=policy(threshold=2, open_for=1000.0)) as stage:
        for number in range(3):
            stage.admit(partition(), f"docker {number}", Job("docker", endings=NEVER))
        stage.admit(partition(), "1", Job("unnamed", endings=NEVER))
        await asyncio.sleep(0.001)
    assert timers() == []


def timers() -> list[asyncio.TimerHandle]:
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [timer for timer in scheduled if not timer.cancelled()]
