"""The dispatcher: serial per key, concurrent across keys, bounded in memory.

Work enters through `admit`, waits in its key's lane, and runs in one of a pool of workers. A handler's publications are
handed to `publish`; the lane stays held until they were acknowledged, the slot does not. Only then is the offset done.

Everything here runs on one event loop and between two awaits nothing else does: that is what keeps it free of locks.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence, Set
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

from consumer.dispatch.allowance import DeadLetterBudget
from consumer.dispatch.assignment import Assignment
from consumer.dispatch.breaker import BreakerPolicy, State
from consumer.dispatch.budget import DEFAULT_LIMITS, Budget, Limits
from consumer.dispatch.held import HeldLetters
from consumer.dispatch.lanes import NO_OFFSET, Countdown, Group, Lane, ReadyLanes, Stage, Work
from consumer.dispatch.leaving import worth_finishing
from consumer.dispatch.pool import Pool
from consumer.dispatch.retries import RetryPolicy
from consumer.dispatch.unfinished import Unfinished, unfinished_of
from consumer.dispatch.verdicts import Continue, Done, Outage, Retry, Verdict

T = TypeVar("T")
P = TypeVar("P")

_CANCEL_GRACE = 5.0
"""Seconds that cancelled handlers have to clean up before a partition is let go regardless."""

_CRASH_BACKOFF = RetryPolicy(max_attempts=2**31, max_elapsed=float("inf"), base_delay=1.0, max_delay=60.0)


_STEPS = 8
"""Steps in a row that work may take. What goes on and on is a defect, and must not keep everybody busy."""

DEFAULT_BREAKERS = BreakerPolicy()
DEFAULT_DEAD_LETTER_BUDGET = DeadLetterBudget()


class Dispatcher(Generic[T, P]):
    """Runs `handler` for admitted work.

    `publish` starts publishing what came of an assignment's work, and returns a future that is done when the broker
    acknowledged all, or when the assignment was closed. `group_of` names the group whose limit an item counts against,
    and whose circuit breaker it waits for; it is asked when the item comes to the head of its lane, and anew when that
    breaker opens. The group without a name has no breaker. `interrupts` says of an item whether it makes pointless what
    is still ahead of it in its lane. `on_crash` is told of what should never happen: a callback that raised or
    publishing that failed. The work is tried again later.
    """

    def __init__(
        self,
        handler: Callable[[Work[T]], Awaitable[Verdict[P]]],
        publish: Callable[[Assignment, Sequence[P]], asyncio.Future[None]],
        *,
        limits: Limits = DEFAULT_LIMITS,
        breakers: BreakerPolicy = DEFAULT_BREAKERS,
        dead_letters: DeadLetterBudget = DEFAULT_DEAD_LETTER_BUDGET,
        group_of: Callable[[Work[T]], str | None] = lambda work: None,
        interrupts: Callable[[Work[T]], bool] = lambda work: False,
        on_crash: Callable[[Work[T], BaseException], None] = lambda work, error: None,
    ) -> None:
        self._handler = handler
        self._publish = publish
        self._limits = limits
        self._group_of = group_of
        self._interrupts = interrupts
        self._on_crash = on_crash
        self._budget = Budget(limits)
        self._lanes: dict[Hashable, Lane[T]] = {}
        self._ready: ReadyLanes[T] = ReadyLanes(dict(limits.per_group), limits.concurrency, breakers)
        self._pool = Pool(self._run, self._ready, limits.concurrency, may_start=self._may_start)
        self._publishing = 0
        self._parked: dict[Lane[T], asyncio.TimerHandle] = {}
        self._held: HeldLetters[T, P] = HeldLetters(dead_letters, self._let_go)
        self._half_opening: dict[Group[T], asyncio.TimerHandle] = {}
        self._draining: set[Assignment] = set()
        self._finishing: set[Work[T]] = set()
        """What is finished of it although it was not begun, or has another step to take."""

        self._moved = asyncio.Event()
        self._room = asyncio.Event()
        self.completed = 0
        """Records done since the start."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel_timers()
        try:
            await self._pool.__aexit__(kind, error, trace)
        finally:
            self._cancel_timers()  # those that handlers asked for instead of being cancelled

    def _cancel_timers(self) -> None:
        for timer in (*self._parked.values(), *self._half_opening.values()):
            timer.cancel()
        self._held.close()

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
            self._enqueue(work)

    def admit_own(self, assignment: Assignment, key: Hashable, item: T) -> bool:
        """Take in work that no record asks for, such as what a timer is for; False when there is no room for it.

        It has no offset: what is given up does not come again by itself. An equal item that waits already is enough.
        """
        if not self.has_room(assignment):
            return False
        if any(work.item == item and work.assignment is assignment for work in self._lanes.get(key, ())):
            return True
        self._budget.take(assignment, 0)
        self._enqueue(Work(assignment, NO_OFFSET, key, item, 0, self._loop.time()))
        return True

    def _enqueue(self, work: Work[T]) -> None:
        lane = self._lanes.get(work.key)
        if lane is None:
            lane = self._lanes[work.key] = Lane(work)
            self._make_ready(lane)
            return
        if self._interrupts(work):
            for earlier in lane:
                earlier.interrupt()
            if lane.stage is Stage.PARKED:
                self._unpark(lane)  # there is nothing to wait for any more
        lane.append(work)

    def has_room(self, assignment: Assignment) -> bool:
        return (
            self._budget.open
            and assignment.open
            and not self._held
            and assignment not in self._draining
            and not assignment.closed
        )

    async def wait_for_room(self, timeout: float) -> None:
        """Return when a closed door opened since the last call, at the latest after `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._room.wait()
        # Cleared afterwards, because a door may have opened between the caller's look at `has_room` and this call.
        self._room.clear()

    def look_again(self) -> None:
        """Have `wait_for_room` return: another reason for not admitting is gone."""
        self._room.set()

    @property
    def outstanding(self) -> int:
        """Items admitted and not done."""
        return self._budget.records

    @property
    def parked(self) -> int:
        """Items that wait for another attempt."""
        return len(self._parked)

    @property
    def held(self) -> int:
        """Items whose dead letters wait for the budget; while there are any, there is no room for more."""
        return len(self._held)

    @property
    def unacknowledged(self) -> int:
        """Outcomes handed to `publish` and not acknowledged yet."""
        return self._publishing

    @property
    def outages(self) -> tuple[str, ...]:
        """The groups whose circuit breaker is not closed."""
        return tuple(group.name for group in self._ready if group.name and group.breaker.state is not State.CLOSED)

    def is_shut(self, group: str) -> bool:
        """Whether this group's circuit breaker lets nothing through at this moment."""
        return any(each.name == group and each.breaker.state is State.OPEN for each in self._ready)

    def oldest(self) -> float:
        """Seconds since the admission of the oldest item that is not done; 0 without one."""
        now = self._loop.time()
        return now - min((lane.head.admitted_at for lane in self._lanes.values()), default=now)

    def unfinished(self) -> list[Unfinished]:
        """Everything admitted and not done, oldest first."""
        return sorted(unfinished_of(self._lanes.values(), self._loop.time()), key=lambda item: -item.age)

    # Leaving a partition

    async def drain(self, assignments: Iterable[Assignment], timeout: float) -> list[Unfinished]:
        """Let what is running of these assignments finish; what did not within `timeout` seconds is returned.

        What is queued, and retries that are waiting, are given up at once: their offsets stay unfinished and come
        again. Only the other parts of records that were begun are finished too. What is still running at the end is
        cancelled. Afterwards the assignments are closed: what is left of their work changes nothing.
        """
        leaving = set(assignments)
        self._draining |= leaving
        finish = worth_finishing(self._lanes.values(), leaving)
        self._finishing |= finish
        self._give_up(list(self._lanes.values()), finish)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    while any(assignment.outstanding for assignment in leaving):
                        self._moved.clear()
                        await self._moved.wait()
        finally:
            cut_off = list(unfinished_of(self._lanes.values(), self._loop.time(), leaving))
            stale = self._close(leaving)
            self._finishing -= finish
        if stale:
            await asyncio.wait(stale, timeout=_CANCEL_GRACE)
        return cut_off

    def _give_up(self, lanes: Iterable[Lane[T]], finish: Set[Work[T]] = frozenset()) -> None:
        """Take the work of assignments being left out of these lanes, apart from what is running and from `finish`."""
        moved = []
        for lane in lanes:
            busy = lane.stage in (Stage.RUNNING, Stage.PUBLISHING)
            head = lane.head
            kept: list[Work[T]] = []
            gone: list[Work[T]] = []
            for work in lane:
                stays = work.assignment not in self._draining or work in finish or (busy and work is head)
                (kept if stays else gone).append(work)
            if not gone:
                continue
            for work in gone:
                self._release(work)
            if kept:
                lane.keep(kept)
            if not kept or kept[0] is not head:
                moved.append((lane, bool(kept)))
        self._ready.discard({lane for lane, _ in moved if lane.stage is Stage.READY})
        for lane, alive in moved:
            if lane.stage is Stage.PARKED:
                self._forget_parked(lane)
            self._held.withdraw(lane)
            if not self._held:
                self._room.set()
            self._settle(lane, alive=alive)

    def _close(self, leaving: set[Assignment]) -> list[asyncio.Task[None]]:
        """Close these assignments; the workers that still ran their work, now cancelled."""
        self._give_up(list(self._lanes.values()))
        for assignment in leaving:
            assignment.closed = True
        self._draining -= leaving
        stale = [worker for lane, worker in self._pool.running.items() if lane.head.assignment in leaving]
        for worker in stale:
            if not worker.cancelling():  # a drain at the same time did: its handler is cleaning up
                worker.cancel()
        return stale

    # Running

    def _make_ready(self, lane: Lane[T], *, first: bool = False) -> None:
        lane.stage = Stage.READY
        try:
            group = self._group_of(lane.head)
        except Exception as error:  # noqa: BLE001 - the boundary: the handler will meet the same bug, and has a retry
            self._on_crash(lane.head, error)
            group = None
        self._ready.push(lane, group, first=first)
        self._pool.wake()

    def _may_start(self) -> bool:
        return self._publishing < self._limits.max_unacknowledged

    async def _run(self, lane: Lane[T], group: Group[T], worker: asyncio.Task[None]) -> None:
        work = lane.head
        if work.assignment.closed:
            group.running -= 1
            self._drop(lane)
            return
        lane.stage = Stage.RUNNING
        work.attempt += 1
        if work.parts is not None:
            work.parts.begun = True
        if work.started_at is None:
            work.started_at = self._loop.time()
        self._pool.running[lane] = worker
        try:
            verdict = await self._handler(work)
        except asyncio.CancelledError as error:
            if worker.cancelling():
                self._leave(lane, group)
                if not self._pool.closing:  # what the dispatcher's own end cuts off stays unfinished
                    self._drop(lane)
                raise
            verdict = self._crashed(work, error)  # what the handler waited for was cancelled, not the handler
        except Exception as error:  # noqa: BLE001 - the boundary: no handler's bug may end the dispatcher
            verdict = self._crashed(work, error)
        else:
            self._note(group, verdict)
        self._leave(lane, group)
        if isinstance(verdict, Outage) and not work.assignment.closed:
            self._suspend(lane, work, verdict, group)
        else:
            self._conclude(lane, work, verdict)

    def _leave(self, lane: Lane[T], group: Group[T]) -> None:
        del self._pool.running[lane]
        group.running -= 1

    def _crashed(self, work: Work[T], error: BaseException) -> Retry:
        self._on_crash(work, error)
        return Retry(_CRASH_BACKOFF.delay(work.attempt, 0.0) or 0.0)

    def _conclude(self, lane: Lane[T], work: Work[T], verdict: Verdict[P]) -> None:
        if work.assignment.closed:
            self._drop(lane)
        elif isinstance(verdict, Done):
            if self._held.pay(lane, verdict):
                self._deliver(lane, verdict)
            else:
                lane.stage = Stage.HELD
                if self._draining:
                    self._give_up([lane])
        elif isinstance(verdict, Continue):
            self._deliver(lane, verdict)
        elif isinstance(verdict, Retry):
            work.steps = 0
            if verdict.fresh:
                work.attempt, work.started_at = 0, None
            self._park(lane, verdict.delay)

    def _deliver(self, lane: Lane[T], outcome: Done[P] | Continue[P]) -> None:
        work = lane.head
        then = self._finish if isinstance(outcome, Done) else self._go_on
        if not outcome.publications:
            then(lane)
            return
        lane.stage = Stage.PUBLISHING
        self._publishing += 1
        acked = self._publish(work.assignment, outcome.publications)
        acked.add_done_callback(lambda acked: self._published(lane, work, acked, then))

    def _let_go(self, lane: Lane[T], outcome: Done[P]) -> None:
        """Deliver what was held."""
        if not self._held:
            self._room.set()
        self._deliver(lane, outcome)

    def _published(
        self, lane: Lane[T], work: Work[T], acked: asyncio.Future[None], then: Callable[[Lane[T]], None]
    ) -> None:
        self._publishing -= 1
        error = asyncio.CancelledError() if acked.cancelled() else acked.exception()
        if error is None:
            then(lane)
        else:
            self._conclude(lane, work, self._crashed(work, error))
        if self._publishing == self._limits.max_unacknowledged - 1:
            self._pool.wake()

    def _go_on(self, lane: Lane[T]) -> None:
        """Take the next step of the lane's head."""
        work = lane.head
        work.steps += 1
        if work.steps > _STEPS:
            self._conclude(lane, work, self._crashed(work, RuntimeError(f"after {_STEPS} steps there is no end to it")))
            return
        work.attempt, work.started_at = 0, None
        if work.assignment.closed:
            self._drop(lane)
            return
        self._make_ready(lane)
        if self._draining:
            self._give_up([lane], self._finishing)

    def _park(self, lane: Lane[T], delay: float) -> None:
        lane.stage = Stage.PARKED
        self._parked[lane] = self._loop.call_later(delay, self._unpark, lane)
        self._budget.park()
        if self._draining:
            self._give_up([lane])

    def _unpark(self, lane: Lane[T]) -> None:
        self._forget_parked(lane)
        self._make_ready(lane)

    def _forget_parked(self, lane: Lane[T]) -> None:
        self._parked.pop(lane).cancel()
        if self._budget.unpark():
            self._room.set()

    # Backends that do not answer

    def _note(self, group: Group[T], verdict: Verdict[P]) -> None:
        """Let the group's breaker know that a handler returned."""
        if not isinstance(verdict, Outage) and group.breaker.succeeded():
            group.adjust()
            if (timer := self._half_opening.pop(group, None)) is not None:
                timer.cancel()
            self._pool.wake()

    def _suspend(self, lane: Lane[T], work: Work[T], outage: Outage, group: Group[T]) -> None:
        """Keep the work until its backend answers again."""
        work.attempt, work.started_at, work.steps = 0, None, 0
        failing = group if outage.group is None else self._ready.group(outage.group)
        if failing.name is not None and (opening := failing.breaker.failed()) is not None:
            failing.adjust()
            self._half_opening[failing] = self._loop.call_later(opening, self._half_open, failing)
            self._regroup(failing)
        if failing is group and failing.breaker.state is State.OPEN:
            self._make_ready(lane, first=True)
            if self._draining:
                self._give_up([lane])
        else:
            self._park(lane, failing.breaker.patience())

    def _regroup(self, group: Group[T]) -> None:
        """Have what waits for a backend that stopped answering done by another, if there is one that can."""
        waiting, group.ready = group.ready, deque()
        for lane in waiting:
            self._make_ready(lane)

    def _half_open(self, group: Group[T]) -> None:
        del self._half_opening[group]
        group.breaker.half_open()
        group.adjust()
        self._pool.wake()

    # Ends

    def _finish(self, lane: Lane[T]) -> None:
        work = lane.head
        if not work.assignment.closed:
            if work.parts is not None:
                work.parts.remaining -= 1
            if work.offset != NO_OFFSET and (work.parts is None or work.parts.remaining == 0):
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
