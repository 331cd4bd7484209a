"""The design's invariants, under hundreds of random stories.

MOORAGE_SIMULATION_SEEDS says how many (200 when unset); a seed that fails is in its test's name, with its story.
"""

import os

import pytest

from tests.dispatch.simulation import Simulation

pytestmark = pytest.mark.no_cover  # measured, it takes three times as long; others reach what it reaches

SEEDS = int(os.environ.get("MOORAGE_SIMULATION_SEEDS", "200"))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_nothing_is_lost_out_of_order_blocked_or_beyond_its_bounds(seed: int) -> None:
    simulation = Simulation(seed)
    try:
        await simulation.run()
    finally:
        print(f"seed {seed}", *simulation.story[-100:], sep="\n")  # noqa: T201 - shown when the test fails
    assert simulation.problems == []
