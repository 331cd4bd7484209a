"""The clock that the other tests here rely on."""

import asyncio
import threading

import pytest

from tests.dispatch.scene import now
from tests.virtual_clock import Deadlock, VirtualClockLoop, run


async def test_a_year_passes_at_once() -> None:
    assert isinstance(asyncio.get_running_loop(), VirtualClockLoop)
    await asyncio.sleep(365 * 86_400)
    assert now() == 365 * 86_400


async def test_timers_fire_in_the_order_of_their_times_and_at_them() -> None:
    fired = []

    async def wait(delay: float) -> None:
        await asyncio.sleep(delay)
        fired.append((now(), delay))

    await asyncio.gather(*map(wait, (3.0, 0.5, 1e6, 0.0, 0.5)))
    assert fired == [(0.0, 0.0), (0.5, 0.5), (0.5, 0.5), (3.0, 3.0), (1e6, 1e6)]


async def test_time_stands_still_while_something_can_run() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)
    assert now() == 0.0


async def test_a_timeout_ends_what_would_take_longer() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await asyncio.sleep(11)
    assert now() == 10


def test_waiting_for_what_never_happens_is_an_error() -> None:
    async def wait_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(wait_for_ever())


def test_an_error_in_a_callback_is_not_only_logged() -> None:
    async def call_and_wait() -> None:
        asyncio.get_running_loop().call_later(1, {}.__getitem__, "missing")
        await asyncio.sleep(2)

    with pytest.raises(RuntimeError) as raised:
        run(call_and_wait())
    assert isinstance(raised.value.__cause__, KeyError)


async def test_a_thread_is_waited_for() -> None:
    done = asyncio.Event()
    threading.Timer(0.05, asyncio.get_running_loop().call_soon_threadsafe, [done.set]).start()
    await done.wait()
    assert now() == 0.0
