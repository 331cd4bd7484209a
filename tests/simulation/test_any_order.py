"""The same world, but Hypothesis decides what happens next, and finds the shortest way to whatever goes wrong."""

import asyncio

import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumer.dispatch import Limits
from consumer.transport.options import Options
from tests.simulation.plan import GROUP, Plan, Trouble
from tests.simulation.story import MOST_MEMBERS, Story
from tests.virtual_clock import VirtualClockLoop

_PROBABILITIES = st.sampled_from([0.0, 0.1, 0.5])


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualClockLoop)
        self.logs = structlog.testing.capture_logs()
        self.logs.__enter__()

    @initialize(
        seed=st.integers(0, 100),
        partitions=st.integers(1, 3),
        keys=st.integers(1, 4),
        concurrency=st.integers(1, 3),
        records=st.sampled_from([1, 3, 30]),
        drain_timeout=st.sampled_from([0.1, 2.0, 25.0]),
    )
    def begin(
        self, seed: int, partitions: int, keys: int, concurrency: int, records: int, drain_timeout: float
    ) -> None:
        limits = Limits(max_records=records, max_records_per_partition=records, concurrency=concurrency)
        options = Options(
            group=GROUP,
            limits=limits,
            poll_wait=2.0,
            commit_interval=0.5,
            session_timeout=10.0,
            drain_timeout=drain_timeout,
        )
        plan = Plan(seed, partitions, keys=keys, options=options, events=("outage", "kill", "reset"))
        self.story = self.runner.run(_tell(Story(plan)))

    @rule(count=st.integers(1, 5))
    def records_are_produced(self, count: int) -> None:
        async def produce() -> None:
            for _ in range(count):
                self.story.produce()

        self.runner.run(produce())

    @precondition(lambda self: len(self.story.alive) < MOST_MEMBERS)
    @rule()
    def a_member_joins(self) -> None:
        async def join() -> None:
            self.story.join()

        self.runner.run(join())

    @precondition(lambda self: self.story.alive)
    @rule(which=st.integers(0, MOST_MEMBERS - 1))
    def a_member_is_told_to_stop(self, which: int) -> None:
        member = self.story.alive[which % len(self.story.alive)]

        async def stop() -> None:
            member.stop()

        self.runner.run(stop())

    @precondition(lambda self: self.story.alive)
    @rule(which=st.integers(0, MOST_MEMBERS - 1))
    def a_member_is_killed(self, which: int) -> None:
        member = self.story.alive[which % len(self.story.alive)]

        async def kill() -> None:
            member.kill()

        self.runner.run(kill())

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.1, 1.0, 5.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @precondition(lambda self: self.story.broker.up)
    @rule()
    def kafka_goes_down(self) -> None:
        async def go_down() -> None:
            self.story.broker.go_down()

        self.runner.run(go_down())

    @precondition(lambda self: not self.story.broker.up)
    @rule()
    def kafka_comes_back(self) -> None:
        async def come_up() -> None:
            self.story.broker.come_up()

        self.runner.run(come_up())

    @rule(handler=_PROBABILITIES, fails=_PROBABILITIES, lost=_PROBABILITIES, refused=_PROBABILITIES)
    def trouble_changes(self, handler: float, fails: float, lost: float, refused: float) -> None:
        self.story.chaos.trouble = Trouble(handler, request_fails=fails, reply_lost=lost, refused=refused)

    @precondition(lambda self: self.story.broker.up)
    @rule()
    def an_operator_moves_the_group(self) -> None:
        self.runner.run(self.story.reset_offsets())

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert self.story.problems == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "story"):
                self.runner.run(self._end())
                assert self.story.problems == [], "\n".join(self.story.observer.story)
        finally:
            self.logs.__exit__(None, None, None)
            self.runner.close()

    async def _end(self) -> None:
        await self.story.settle()
        await self.story.stop_all()
        await self.story.end()


async def _tell(story: Story) -> Story:
    story.set_up()
    return story


World.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
test_whatever_happens_in_whatever_order_nothing_is_lost = World.TestCase
