"""Where the time of a provisioning went: every second is in exactly one part, and the parts make the whole."""

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.environment import EnvironmentSpec
from consumer.handling.errors import Transient, Unavailable
from consumer.handling.ports import Environment, Progress, Report
from consumer.handling.stopwatch import Stopwatch
from consumer.provisioners.memory import MemoryProvisioner
from schemas.outbound import Result, Timings
from tests.handling.stage import KEY, Stage, end, resource, start, updated
from tests.virtual_clock import VirtualClockLoop

Step = tuple[str, float]
EVERYTHING: tuple[Step, ...] = (
    ("", 1),
    ("creating", 2),
    ("pulling", 30),
    ("creating", 3),
    ("starting", 4),
    ("waiting", 50),
)


def slow(stage: Stage, *steps: Step) -> None:
    """Let the runtime report these stages when it makes an environment, each with the seconds that follow."""
    provisioner: MemoryProvisioner = stage.lifecycle._runtimes["docker"]  # type: ignore[assignment]
    ensure: Callable[[EnvironmentSpec, Report], Awaitable[Environment]] = provisioner.ensure

    async def slowly(spec: EnvironmentSpec, report: Report) -> Environment:
        for name, seconds in steps:
            if name:
                report(Progress(name, "…"))
            await asyncio.sleep(seconds)
        return await ensure(spec, report)

    provisioner.ensure = slowly  # type: ignore[method-assign,assignment]


def timings(result: Result) -> tuple[float, ...]:
    times = result.timings
    assert times is not None
    assert times.total == round(times.queued + times.pulled + times.started + times.ready, 3)
    return (times.queued, times.pulled, times.started, times.ready, times.total)


async def test_stages_are_timed() -> None:
    stage = Stage()
    slow(stage, *EVERYTHING)
    (result,) = (await stage.deliver(start())).results
    assert timings(result) == (0, 30, 10, 50, 90)


async def test_a_pull_that_is_told_of_afterwards_is_taken_from_what_was_started() -> None:
    stage = Stage()
    provisioner: MemoryProvisioner = stage.lifecycle._runtimes["docker"]  # type: ignore[assignment]
    ensure = provisioner.ensure

    async def telling(spec: EnvironmentSpec, report: Report) -> Environment:
        report(Progress("starting", "…"))
        await asyncio.sleep(10)
        report(Progress("pulled", "…", 7.5))
        report(Progress("waiting", "…"))
        await asyncio.sleep(4)
        return await ensure(spec, report)

    provisioner.ensure = telling  # type: ignore[method-assign]

    (result,) = (await stage.deliver(start())).results

    assert timings(result) == (0, 7.5, 2.5, 4, 14)


async def test_no_pull_takes_longer_than_all_that_was_made_meanwhile() -> None:
    watch = Stopwatch(asyncio.get_running_loop().time())
    watch.begin()
    watch.note(Progress("pulling", "…"))
    await asyncio.sleep(2)

    watch.note(Progress("pulled", "…", 60.0))

    assert watch.timings() == Timings(pulled=2.0, total=2.0)


async def test_a_remark_ends_no_stage() -> None:
    stage = Stage()
    slow(stage, ("pulling", 1), ("unlimited", 2), ("pulling", 3), ("invented later", 4), ("waiting", 5), ("odd", 6))
    (result,) = (await stage.deliver(start())).results
    assert timings(result) == (0, 10, 0, 11, 21)


async def test_a_runtime_that_reports_nothing_only_starts() -> None:
    stage = Stage()
    slow(stage, ("", 7))
    assert timings((await stage.deliver(start())).results[0]) == (0, 0, 7, 0, 7)


async def test_waits_and_attempts_that_failed_are_queueing() -> None:
    stage = Stage()
    slow(stage, ("pulling", 8), ("starting", 2))
    stage.docker.fail("ensure", Transient("runtime_error", "Not now."), nth=1)
    stage.docker.fail("find", Unavailable("Gone."), nth=2)
    told = await stage.deliver(start())
    retry, _ = told.waits
    waited = 10 + retry.delay + stage.outage  # type: ignore[union-attr]
    assert timings(told.results[0]) == (round(waited, 3), 8, 2, 0, round(waited + 10, 3))


async def test_a_move_waits_until_the_former_environment_is_gone() -> None:
    stage = Stage()
    await stage.deliver(start())
    slow(stage, ("starting", 2))
    stage.docker.latency = 1.0
    released, provisioned = (await stage.deliver(updated(1, resource=resource()))).results
    assert released.timings is None
    queued, pulled, started, ready, _ = timings(provisioned)
    assert queued >= 3  # looked, asked to remove, removed
    assert (pulled, ready) == (0, 0)
    assert started > 2


async def test_only_what_was_made_for_this_event_is_timed() -> None:
    stage = Stage()
    first, again, extended, ended = await stage.deliver_all(start(), start(), updated(1), end())
    assert again.results[0].id == first.results[0].id
    assert first.results[0].timings is not None
    assert [each.results[0].timings for each in (again, extended, ended)] == [None, None, None]
    assert b"timings" not in (again.publications[0].value or b"")


async def test_an_environment_that_had_to_be_made_again_is_timed_again() -> None:
    stage = Stage()
    await stage.deliver(start())
    stage.docker.stop(KEY)
    slow(stage, ("starting", 3))
    (result,) = (await stage.deliver(start())).results
    assert timings(result) == (0, 0, 3, 0, 3)


async def test_what_failed_has_no_timings() -> None:
    stage = Stage()
    assert (await stage.deliver(start(customParameters='{"image": "evil:1"}'))).results[0].timings is None


stages = st.sampled_from(["pulling", "creating", "starting", "waiting", "unlimited", ""])


@given(
    st.floats(0, 1e6),
    st.lists(st.tuples(stages, st.floats(0, 1e4)), max_size=8),
    st.lists(st.tuples(stages, st.floats(0, 1e4)), max_size=3),
)
def test_every_millisecond_is_in_one_part(queued: float, steps: list[Step], given_up: list[Step]) -> None:
    async def run() -> tuple[Timings | None, float]:
        loop = asyncio.get_running_loop()
        watch, begun = Stopwatch(loop.time()), loop.time()
        await asyncio.sleep(queued)
        for attempt in (given_up, steps):
            watch.begin()
            for name, seconds in attempt:
                watch.note(Progress(name, ""))
                await asyncio.sleep(seconds)
        return watch.timings(), loop.time() - begun

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        times, passed = runner.run(run())
    assert times is not None
    assert abs(times.total - passed) < 0.01
    assert times.total == round(times.queued + times.pulled + times.started + times.ready, 3)


def test_nothing_made_is_nothing_timed() -> None:
    assert Stopwatch(0.0).timings() is None
