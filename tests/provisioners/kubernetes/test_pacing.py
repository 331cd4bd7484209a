"""Requests are spread out, in time that takes no time."""

import asyncio

from consumer.provisioners.kubernetes.pacing import Pace
from tests.virtual_clock import run


def turns(pace: Pace, count: int, *, after: float = 0.0) -> list[float]:
    """When each of those who ask at once gets its turn."""

    async def all_of_them() -> list[float]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(after)
        at: list[float] = []

        async def one() -> None:
            await pace.turn()
            at.append(round(loop.time() - after, 6))

        await asyncio.gather(*(one() for _ in range(count)))
        return at

    return run(all_of_them())


def test_a_burst_goes_through_and_the_rest_follows_at_the_rate() -> None:
    assert turns(Pace(10, burst=3), 6) == [0.0, 0.0, 0.0, 0.1, 0.2, 0.3]


def test_what_was_not_used_is_saved_up_to_the_burst() -> None:
    pace = Pace(10, burst=2)
    turns(pace, 4)

    assert turns(pace, 3, after=3600) == [0.0, 0.0, 0.1]
