"""A member is killed at its first await, its second, and so on, until a story ends before it is.

Awaits are those of its handler, and those of its requests to Kafka: before they are carried out, and before the reply.
"""

import asyncio
from dataclasses import replace

import pytest

from consumer.dispatch import Limits
from consumer.transport.options import Options
from tests.simulation.plan import GROUP, Plan
from tests.simulation.story import Story

pytestmark = pytest.mark.no_cover  # measured, it takes three times as long; others reach what it reaches

SMALL = Plan(
    seed=1,
    partitions=1,
    records=10,
    keys=3,
    pace=0.2,
    options=Options(group=GROUP, limits=Limits(concurrency=2), poll_wait=2.0, commit_interval=0.3, drain_timeout=5.0),
    slowness=0.2,
    duration=8.0,
    events=("kill",),
)


class ShortLife(Story):
    """The first member is told to stop when it has done some of its work."""

    async def _happen(self) -> None:
        await asyncio.sleep(3.0)
        await self.stop(self.members[0])
        await asyncio.sleep(60)


@pytest.mark.parametrize(("seed", "members"), [(1, 1), (2, 2)])
async def test_wherever_a_member_is_killed_nothing_is_lost_or_out_of_order(seed: int, members: int) -> None:
    kill_at = 0
    killed = True
    while killed:
        kill_at += 1
        story = ShortLife(replace(SMALL, seed=seed, members=members), kill_at=kill_at)
        await story.tell()
        killed = story.awaits >= kill_at
        if story.problems:
            print(f"killed at await {kill_at}", *story.observer.story, sep="\n")  # noqa: T201 - shown on failure
        assert story.problems == [], f"killed at await {kill_at}"
    assert kill_at > 50
