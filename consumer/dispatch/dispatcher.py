"""The dispatcher: serial per key, concurrent across keys, bounded in memory.

Work enters through `admit`, waits in its key's lane, and runs in one of at most `concurrency` workers. A worker is a
long-lived task that takes lane after lane, so a record costs no task of its own. A handler's publications are handed
to `publish`; the lane stays held until they were acknowledged, the slot does not. Only then is the offset done.

Everything here runs on one event loop and between two awaits nothing else does: that is what keeps it free of locks.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from consumer.dispatch.assignment import Assignment
from consumer.dispatch.budget import DEFAULT_LIMITS, Budget, Limits
from consumer.dispatch.lanes import Countdown, Group, Lane, ReadyLanes, Stage, Work
from consumer.dispatch.retries import RetryPolicy
from consumer.dispatch.verdicts import Retry, Verdict

T = TypeVar("T")
P = TypeVar("P")

_YIELD_EVERY = 128
"""A worker whose handlers never suspend gives way to the rest of the program after this many."""

_CANCEL_GRACE = 5.0
"""Seconds that cancelled handlers have to clean up before a partition is let go regardless."""

_CRASH_BACKOFF = RetryPolicy(max_attempts=2**31, max_elapsed=float("inf"), base_delay=1.0, max_delay=60.0)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Work that was admitted and is not done: what an operator sees when a shutdown was forced."""

    topic: str
    partition: int
    offset: int
    key: Hashable
    stage: str
    attempt: int
    age: float


class Dispatcher(Generic[T, P]):
    """Runs `handler` for admitted work.

    `publish` starts publishing and returns a future that is done when the broker acknowledged all. `group_of` names
    the group whose limit an item counts against; it is asked when the item comes to the head of its lane.
    `on_crash` is told of what should never happen: a callback that raised or publishing that failed. The work is tried
    again later.
    """

    def __init__(
        self,
        handler: Callable[[Work[T]], Awaitable[Verdict[P]]],
        publish: Callable[[Sequence[P]], asyncio.Future[None]],
        *,
        limits: Limits = DEFAULT_LIMITS,
        group_of: Callable[[Work[T]], str | None] = lambda work: None,
        on_crash: Callable[[Work[T], BaseException], None] = lambda work, error: None,
    ) -> None:
        self._handler = handler
        self._publish = publish
        self._limits = limits
        self._group_of = group_of
        self._on_crash = on_crash
        self._budget = Budget(limits)
        self._lanes: dict[Hashable, Lane[T]] = {}
        self._ready: ReadyLanes[T] = ReadyLanes(dict(limits.per_group), limits.concurrency)
        self._running: dict[Lane[T], asyncio.Task[None]] = {}
        self._parked: dict[Lane[T], asyncio.TimerHandle] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._waking = False
        self._closing = False
        self._draining: set[Assignment] = set()
        self._moved = asyncio.Event()
        self._room = asyncio.Event()
        self.completed = 0
        """Records done since the start."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._tasks = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for timer in self._parked.values():
            timer.cancel()
        for worker in self._workers:
            worker.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    # Admission

    def admit(self, assignment: Assignment, offset: int, parts: Sequence[tuple[Hashable, T]], size: int = 0) -> None:
        """Take one record in, as one item for each (key, item) of `parts`; its offset is done when all of them are.

        `size` is the record's weight in bytes. Never blocks: callers look at `has_room` first, and may overshoot by
        what one poll returned. A record of an assignment that is being left is not taken: it comes again to whoever
        owns the partition next, together with what was given up, and must not overtake that.
        """
        if assignment.closed or assignment in self._draining:
            return
        assignment.watermark.admit(offset)
        if not parts:
            assignment.watermark.complete(offset)
            self.completed += 1
            return
        countdown = Countdown(len(parts)) if len(parts) > 1 else None
        now = self._loop.time()
        share = size // len(parts)
        for key, item in parts:
            work = Work(assignment, offset, key, item, share, now)
            work.parts = countdown
            self._budget.take(assignment, share)
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = Lane(work)
                self._make_ready(lane)
            else:
                lane.append(work)

    def has_room(self, assignment: Assignment) -> bool:
        return self._budget.open and assignment.open and assignment not in self._draining and not assignment.closed

    async def wait_for_room(self, timeout: float) -> None:
        """Return when a closed door opened since the last call, at the latest after `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._room.wait()
        # Cleared afterwards, because a door may have opened between the caller's look at `has_room` and this call.
        self._room.clear()

    @property
    def outstanding(self) -> int:
        """Items admitted and not done."""
        return self._budget.records

    def unfinished(self) -> list[Unfinished]:
        """Everything admitted and not done, oldest first."""
        now = self._loop.time()
        found = []
        for lane in self._lanes.values():
            stage = lane.stage.name.lower()
            for work in lane:
                where = work.assignment
                age = now - work.admitted_at
                found.append(Unfinished(where.topic, where.partition, work.offset, work.key, stage, work.attempt, age))
                stage = "queued"
        return sorted(found, key=lambda item: -item.age)

    # Leaving a partition

    async def drain(self, assignments: Iterable[Assignment], timeout: float) -> bool:
        """Let the admitted work of these assignments finish; True when all did within `timeout` seconds.

        Retries that are waiting are given up at once: their offsets stay unfinished and come again. What is still
        running at the end is cancelled. Afterwards the assignments are closed: what is left of their work changes
        nothing and goes as soon as its lane gets to it.
        """
        leaving = set(assignments)
        self._draining |= leaving
        for lane in list(self._parked):
            self._give_up(lane)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    while any(assignment.outstanding for assignment in leaving):
                        self._moved.clear()
                        await self._moved.wait()
        finally:
            stale = self._close(leaving)
        if stale:
            await asyncio.wait(stale, timeout=_CANCEL_GRACE)
        return not any(assignment.watermark.pending for assignment in leaving)

    def _give_up(self, lane: Lane[T]) -> None:
        """Take the work of assignments being left out of a parked lane.

        All of it, not the head alone: later items must not overtake one that was given up, nor wait for another's
        retry.
        """
        kept = [work for work in lane if work.assignment not in self._draining]
        for work in lane:
            if work.assignment in self._draining:
                self._release(work)
        waits = lane.head in kept
        if kept:
            lane.keep(kept)
        if not waits:
            self._parked.pop(lane).cancel()
            self._settle(lane, alive=bool(kept))

    def _close(self, leaving: set[Assignment]) -> list[asyncio.Task[None]]:
        """Close these assignments; the workers that still ran their work, now cancelled."""
        for assignment in leaving:
            assignment.closed = True
        self._draining -= leaving
        stale = [worker for lane, worker in self._running.items() if lane.head.assignment in leaving]
        for worker in stale:
            if not worker.cancelling():  # a drain at the same time did: its handler is cleaning up
                worker.cancel()
        return stale

    # Running

    def _make_ready(self, lane: Lane[T]) -> None:
        lane.stage = Stage.READY
        try:
            group = self._group_of(lane.head)
        except Exception as error:  # noqa: BLE001 - the boundary: the handler will meet the same bug, and has a retry
            self._on_crash(lane.head, error)
            group = None
        self._ready.push(lane, group)
        self._wake()

    def _wake(self) -> None:
        """Start one more worker if there is something to do. It wakes the next one in turn."""
        if self._waking or self._closing:
            return
        while self._idle:
            sleeper = self._idle.popleft()
            if not sleeper.done():
                self._waking = True
                sleeper.set_result(None)
                return
        if len(self._workers) < self._limits.concurrency:
            self._waking = True
            worker = self._tasks.create_task(self._work(), name=f"lane-worker-{len(self._workers)}")
            self._workers.add(worker)
            worker.add_done_callback(self._worker_ended)

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and worker.exception() is not None:
            self._closing = True
        # A worker that was cancelled on its way to new work must not take the wake-up with it.
        self._waking = False
        if self._ready.has_runnable():
            self._wake()

    async def _work(self) -> None:
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - narrows the type; this runs in a task
        handled = 0
        # A handler that swallowed its cancellation must not keep the worker from ending.
        while not worker.cancelling():
            self._waking = False
            taken = self._ready.pop()
            if taken is None:
                sleeper = self._loop.create_future()
                self._idle.append(sleeper)
                await sleeper
                continue
            if self._ready.has_runnable():
                self._wake()
            await self._run(*taken, worker)
            handled += 1
            if handled % _YIELD_EVERY == 0:
                await asyncio.sleep(0)

    async def _run(self, lane: Lane[T], group: Group[T], worker: asyncio.Task[None]) -> None:
        work = lane.head
        if work.assignment.closed:
            group.running -= 1
            self._drop(lane)
            return
        lane.stage = Stage.RUNNING
        work.attempt += 1
        if work.started_at is None:
            work.started_at = self._loop.time()
        self._running[lane] = worker
        try:
            verdict = await self._handler(work)
        except asyncio.CancelledError as error:
            if worker.cancelling():
                self._leave(lane, group)
                if not self._closing:  # what the dispatcher's own end cuts off stays unfinished
                    self._drop(lane)
                raise
            verdict = self._crashed(work, error)  # what the handler waited for was cancelled, not the handler
        except Exception as error:  # noqa: BLE001 - the boundary: no handler's bug may end the dispatcher
            verdict = self._crashed(work, error)
        self._leave(lane, group)
        self._conclude(lane, work, verdict)

    def _leave(self, lane: Lane[T], group: Group[T]) -> None:
        del self._running[lane]
        group.running -= 1

    def _crashed(self, work: Work[T], error: BaseException) -> Retry:
        self._on_crash(work, error)
        return Retry(_CRASH_BACKOFF.delay(work.attempt, 0.0) or 0.0)

    def _conclude(self, lane: Lane[T], work: Work[T], verdict: Verdict[P]) -> None:
        if work.assignment.closed:
            self._drop(lane)
        elif isinstance(verdict, Retry):
            if verdict.fresh:
                work.attempt, work.started_at = 0, None
            self._park(lane, verdict.delay)
        elif verdict.publications:
            lane.stage = Stage.PUBLISHING
            self._publish(verdict.publications).add_done_callback(lambda acked: self._published(lane, work, acked))
        else:
            self._finish(lane)

    def _park(self, lane: Lane[T], delay: float) -> None:
        lane.stage = Stage.PARKED
        self._parked[lane] = self._loop.call_later(delay, self._unpark, lane)
        if self._draining:
            self._give_up(lane)

    def _unpark(self, lane: Lane[T]) -> None:
        del self._parked[lane]
        self._make_ready(lane)

    def _published(self, lane: Lane[T], work: Work[T], acked: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if acked.cancelled() else acked.exception()
        if error is None:
            self._finish(lane)
        else:
            self._conclude(lane, work, self._crashed(work, error))

    # Ends

    def _finish(self, lane: Lane[T]) -> None:
        work = lane.head
        if not work.assignment.closed:
            if work.parts is not None:
                work.parts.remaining -= 1
            if work.parts is None or work.parts.remaining == 0:
                work.assignment.watermark.complete(work.offset)
                self.completed += 1
        self._drop(lane)

    def _drop(self, lane: Lane[T]) -> None:
        """Let go of the lane's head, done or not."""
        self._release(lane.head)
        self._settle(lane, alive=lane.advance())

    def _settle(self, lane: Lane[T], *, alive: bool) -> None:
        """Go on with the lane's new head. What is stale by now goes without waiting for a slot."""
        while alive and lane.head.assignment.closed:
            self._release(lane.head)
            alive = lane.advance()
        if alive:
            self._make_ready(lane)
        else:
            del self._lanes[lane.key]

    def _release(self, work: Work[T]) -> None:
        if self._budget.give_back(work.assignment, work.size):
            self._room.set()
        self._moved.set()
