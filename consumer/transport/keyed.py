"""A Kafka consumer that is serial per key and concurrent across keys: the parts of this room, put together.

Moorage is one; `docs/how-to/consumer.md` shows how to build another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Generic, TypeVar

import structlog

from consumer.dispatch import Assignment, Dispatcher, Unfinished, Verdict, Work
from consumer.handling.records import Record
from consumer.transport.connection import Connection
from consumer.transport.intake import Intake
from consumer.transport.liveness import Liveness, Monitor
from consumer.transport.options import Options
from consumer.transport.outbox import Outbox
from consumer.transport.outgoing import Outgoing
from consumer.transport.partitions import Memory, NoMemory

log = structlog.get_logger("moorage.consumer")

T = TypeVar("T")

_LOOK_AGAIN = 0.1

Handler = Callable[[Work[T]], Awaitable[Verdict[Outgoing]]]
Route = Callable[[Record], Sequence[tuple[Hashable, T]]]


def by_key(record: Record) -> Sequence[tuple[Hashable, Record]]:
    """Records of one key follow each other; one without a key follows nobody."""
    return ((record.key or (record.topic, record.partition, record.offset), record),)


class KeyedConsumer(Generic[T]):
    """Consumes `topics` with `handler`, from `run` until `stop`.

    `route` says which lanes a record goes to, with what for the handler; it must not raise. `memory` restores what is
    remembered of partitions before their first record. `group_of` names the concurrency limit and circuit breaker that
    work counts against. `interrupts` says of work whether it makes pointless what is ahead of it under its key.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str],
        handler: Handler[T],
        options: Options,
        *,
        route: Route[T] = by_key,  # type: ignore[assignment] # right for the T = Record that it makes
        memory: Memory | None = None,
        group_of: Callable[[Work[T]], str | None] = lambda work: None,
        interrupts: Callable[[Work[T]], bool] = lambda work: False,
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._handler = handler
        self._options = options
        self._route = route
        self._memory = memory or NoMemory()
        self._group_of = group_of
        self._interrupts = interrupts
        self._stop = asyncio.Event()
        self._start: Callable[..., asyncio.Task[None]]
        self._dispatcher: Dispatcher[T, Outgoing] | None = None
        self._monitor: Monitor | None = None

    def stop(self) -> None:
        """Finish what is running and return from `run`. May be called from a signal handler, and before `run`."""
        self._stop.set()

    def admit(self, assignment: Assignment, key: Hashable, item: T) -> bool:
        """Take in work that no record asks for, such as what a timer is for.

        False when there is no room for it now, or when records that may change everything have not been read yet.
        """
        owned = self._intake.partitions if self._dispatcher is not None else None
        if self._dispatcher is None or owned is None or not owned.caught_up(assignment):
            return False
        return self._dispatcher.admit_own(assignment, key, item)

    def tell(self, message: Outgoing) -> bool:
        """Publish what nobody depends on, ahead of all that is published afterwards; False when it was dropped."""
        if self._dispatcher is None or self._intake.suspended:
            return False
        return self._outbox.tell(message)

    def is_shut(self, group: str) -> bool:
        """Whether work of this group waits at this moment because what it depends on does not answer."""
        return self._dispatcher is not None and self._dispatcher.is_shut(group)

    def unfinished(self) -> list[Unfinished]:
        """What is admitted and not done, oldest first."""
        return self._dispatcher.unfinished() if self._dispatcher is not None else []

    def liveness(self) -> Liveness | None:
        """How it is doing; None before `run` has begun."""
        return self._monitor.snapshot() if self._monitor is not None else None

    async def run(self) -> bool:
        """Consume until `stop`. True when everything that was begun was finished, published and committed.

        Raises `TransportError` when the group cannot be joined; later troubles are waited out.
        """
        options, outbox = self._options, Outbox(self._connection)
        self._outbox = outbox
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._start = tasks.create_task
            sending = tasks.create_task(outbox.run(), name="outbox")
            dispatcher = Dispatcher(
                self._handler,
                self._publish,
                limits=options.limits,
                breakers=options.breakers,
                dead_letters=options.dead_letters,
                group_of=self._group_of,
                interrupts=self._interrupts,
                on_crash=_log_crash,
            )
            self._dispatcher = await stack.enter_async_context(dispatcher)
            intake = self._intake = Intake(
                self._connection,
                self._topics,
                options,
                dispatcher=dispatcher,
                route=self._route,
                memory=self._memory,
                outbox=outbox,
            )
            monitor = self._monitor = Monitor(dispatcher, intake, outbox, options.alarms)
            background = [
                tasks.create_task(monitor.run(), name="monitor"),
                tasks.create_task(self._stop_intake(intake), name="stop"),
                tasks.create_task(intake.stay_awake(), name="awake"),
            ]
            finished = await intake.run()
            flushed = await outbox.flush(options.flush_timeout)
            for task in (sending, *background):
                task.cancel()
        log.info("stopped", finished=finished and flushed)
        return finished and flushed

    def _publish(self, assignment: Assignment, messages: Sequence[Outgoing]) -> asyncio.Future[None]:
        if not self._intake.suspended:
            return self._outbox.publish(messages)
        acked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start(self._publish_later(assignment, messages, acked), name="postponed")
        return acked

    async def _publish_later(
        self, assignment: Assignment, messages: Sequence[Outgoing], acked: asyncio.Future[None]
    ) -> None:
        """Publish once the group has told whose the partition is; not at all when it is somebody else's.

        The outcome is kept, since what it remembers is in memory already: made anew, it would tell of no change.
        """
        while self._intake.suspended and not assignment.closed:  # noqa: ASYNC110 - it is time that passes
            await asyncio.sleep(_LOOK_AGAIN)
        if assignment.closed:
            acked.set_result(None)
        else:
            self._outbox.publish(messages).add_done_callback(lambda done: acked.set_result(None))

    async def _stop_intake(self, intake: Intake[T]) -> None:
        await self._stop.wait()
        intake.stop()


def _log_crash(work: Work[Any], error: BaseException) -> None:
    log.error("handler_crashed", record=f"{work.assignment}/{work.offset}", why=repr(error))
