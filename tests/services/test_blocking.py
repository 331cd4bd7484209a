"""The watch that every test is under blames code that blocks, and no other."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from tests import blocking


def what_is_blamed(work: Callable[[], Awaitable[None]]) -> list[str]:
    """What the watch says of `work` if this file counts as ours. In a thread of its own, where no other watch looks."""

    async def somebody_else() -> None:
        await work()

    def run() -> list[str]:
        with blocking.watch((__file__,)) as blamed:
            asyncio.run(somebody_else())
        return blamed

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def test_a_call_that_blocks_the_loop_is_blamed_once() -> None:
    async def sleeper() -> None:
        time.sleep(3)  # noqa: ASYNC251 - the very thing to notice

    (blamed,) = what_is_blamed(sleeper)
    assert "in sleeper" in blamed


def test_a_computation_that_blocks_the_loop_is_blamed_once() -> None:
    async def thinker() -> None:
        until = time.thread_time() + 1
        while time.thread_time() < until:
            pass

    (blamed,) = what_is_blamed(thinker)
    assert "in thinker" in blamed


def test_waiting_without_blocking_is_fine() -> None:
    async def sleeper() -> None:
        await asyncio.sleep(0.9)

    assert what_is_blamed(sleeper) == []


def test_many_short_steps_are_fine() -> None:
    async def walker() -> None:
        for _ in range(9):
            time.sleep(0.1)  # noqa: ASYNC251 - short of the limit
            await asyncio.sleep(0)

    assert what_is_blamed(walker) == []


def test_garbage_collections_are_nobodys_fault() -> None:
    left_by_others: list[list[int]] = [[] for _ in range(200_000)]

    async def collector() -> None:
        until = time.thread_time() + 1
        while time.thread_time() < until:
            gc.collect()

    assert what_is_blamed(collector) == []
    assert left_by_others
