"""Whatever happens to reservations, in whatever order: Hypothesis decides, the model says what should come of it.

MOORAGE_LIFE_EXAMPLES says how many stories are told (60 when unset) and MOORAGE_LIFE_SEED where they begin: the same
number tells the same stories again. Stories that once went wrong are told on their own, in the tests of what was wrong.
"""

import os
import random
from datetime import timedelta

import pytest
import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from consumer.dispatch import Limits
from consumer.reservations import Policy
from schemas.events import ReservationEvent
from tests.handling.life.lab import Lab
from tests.handling.life.platform import NAMES
from tests.handling.life.trouble import Trouble
from tests.handling.world import HOUR

pytestmark = pytest.mark.no_cover  # measured, it takes three times as long; others reach what it reaches

EXAMPLES = int(os.environ.get("MOORAGE_LIFE_EXAMPLES", "60"))
SEED = int(os.environ.get("MOORAGE_LIFE_SEED", "1"))


class Life(Trouble):
    def __init__(self) -> None:
        super().__init__()
        self.logs = structlog.testing.capture_logs()
        self.logs.__enter__()
        random.seed(0)

    @initialize(
        partitions=st.integers(1, 3),
        most_members=st.integers(1, 2),
        concurrency=st.sampled_from([1, 2, 10]),
        self_schedule=st.booleans(),
        retention=st.sampled_from([HOUR, 7 * 24 * HOUR]),
    )
    def begin(
        self, partitions: int, most_members: int, concurrency: int, self_schedule: bool, retention: timedelta
    ) -> None:
        async def begin() -> None:
            self.lab = Lab(
                partitions=partitions,
                policy=Policy(self_schedule=self_schedule),
                limits=Limits(concurrency=concurrency),
                retention=retention.total_seconds(),
            )
            await self.lab.neighbours(NAMES)
            self.most_members = most_members
            for _ in range(most_members):
                await self.lab.joins()

        self.do(begin())

    # What must hold

    @invariant()
    def nothing_is_wrong(self) -> None:
        if hasattr(self, "lab"):
            self.do(self._look())

    async def _look(self) -> None:
        self.lab.watch.look()
        assert self.lab.watch.problems == [], "\n".join(self.lab.watch.story)

    @rule()
    def all_is_quiet_for_once(self) -> None:
        self.do(self._settle())

    async def _settle(self) -> None:
        self.lab.watch.tell("calm")
        self.lab.calm_down()
        self.jumped_at = None
        while len(self.lab.members) < 1:
            await self.lab.joins()
        await self.lab.divide()
        await self.lab.settles()
        self.lab.watch.look_at_peace()
        assert self.lab.watch.problems == [], "\n".join(self.lab.watch.story)

    def teardown(self) -> None:
        try:
            if hasattr(self, "lab") and not self.lab.watch.problems:
                self.do(self._settle())
                self.do(self._end())
        finally:
            if hasattr(self, "lab"):
                self.do(self._kill_all())
            self.logs.__exit__(None, None, None)
            self.runner.close()

    async def _end(self) -> None:
        """Long after the last event nothing is left, but what is the neighbour's."""
        ends = [each.end for each in self.sent if isinstance(each, ReservationEvent)]
        await self.lab.sleep_until(max([self.lab.now(), *ends]) + HOUR)
        await self.lab.settles()
        self.lab.watch.look_at_peace()
        left = {made.spec.key for engine in self.lab.engines for made in engine._made.values()}
        assert len(left) == len(NAMES)

    async def _kill_all(self) -> None:
        for member in self.lab.members:
            await member.die()


TestLife = pytest.mark.timeout(1800)(seed(SEED)(Life.TestCase))
TestLife.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    database=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
)
