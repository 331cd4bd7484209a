"""Workers: long-lived tasks that take lane after lane, so that a record costs no task of its own."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from consumer.dispatch.lanes import Group, Lane, ReadyLanes

T = TypeVar("T")

_YIELD_EVERY = 128
"""A worker whose handlers never suspend gives way to the rest of the program after this many."""


class Pool(Generic[T]):
    """Runs `run(lane, group)` for ready lanes, in at most `concurrency` workers and only while `may_start()`.

    Workers are started when there is something to do. `running` is which of them runs what; `run` keeps it.
    """

    def __init__(
        self,
        run: Callable[[Lane[T], Group[T], asyncio.Task[None]], Awaitable[None]],
        ready: ReadyLanes[T],
        concurrency: int,
        *,
        may_start: Callable[[], bool],
    ) -> None:
        self._run = run
        self._ready = ready
        self._concurrency = concurrency
        self._may_start = may_start
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._waking = False
        self.running: dict[Lane[T], asyncio.Task[None]] = {}
        self.closing = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._tasks = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing = True
        for worker in self._workers:
            worker.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    def wake(self) -> None:
        """Start one more worker if there is something to do. It wakes the next one in turn."""
        if self._waking or self.closing or not self._may_start() or not self._ready.has_runnable():
            return
        while self._idle:
            sleeper = self._idle.popleft()
            if not sleeper.done():
                self._waking = True
                sleeper.set_result(None)
                return
        if len(self._workers) < self._concurrency:
            self._waking = True
            worker = self._tasks.create_task(self._work(), name=f"lane-worker-{len(self._workers)}")
            self._workers.add(worker)
            worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and worker.exception() is not None:
            self.closing = True
        # A worker that was cancelled on its way to new work must not take the wake-up with it.
        self._waking = False
        self.wake()

    async def _work(self) -> None:
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - narrows the type; this runs in a task
        handled = 0
        # A handler that swallowed its cancellation must not keep the worker from ending.
        while not worker.cancelling():
            self._waking = False
            taken = self._ready.pop() if self._may_start() else None
            if taken is None:
                sleeper = self._loop.create_future()
                self._idle.append(sleeper)
                await sleeper
                continue
            self.wake()
            await self._run(*taken, worker)
            handled += 1
            if handled % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
