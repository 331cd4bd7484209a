"""Moorage's intake and dispatcher with the sleeping handler: lanes, bounds, watermark commits, retries, draining."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from benchmarks.contestants.harness import Handler, Task, main
from consumer.dispatch import Assignment, Dispatcher, Done, Limits, Work
from consumer.handling.publications import Publication
from consumer.ops.logging import configure_logging
from consumer.transport.connection import Connection
from consumer.transport.intake import Intake, IntakeOptions

_DONE: Done[Publication] = Done()


class _Nothing:
    """Stands in for the state topic and the outbox, of which this contest asks nothing."""

    healthy = True

    async def restore(self, assignments: Iterable[Assignment]) -> None:
        return None

    def forget(self, assignments: Iterable[Assignment]) -> None:
        return None


@asynccontextmanager
async def moorage(
    task: Task,
    handle: Callable[[Work[bytes]], Awaitable[Done[Publication]]],
    limits: Limits,
    options: IntakeOptions,
) -> AsyncIterator[tuple[Dispatcher[bytes, Publication], Intake[bytes]]]:
    """Consume for as long as the block lasts, then drain, commit and leave the group."""

    def publish(publications: object) -> asyncio.Future[None]:
        raise AssertionError("there is nothing to publish")

    async with Dispatcher(handle, publish, limits=limits) as dispatcher:
        nothing = _Nothing()
        intake = Intake(
            Connection(task.bootstrap),
            [task.topic],
            options,
            dispatcher=dispatcher,
            route=lambda record: ((record.key, record.value or b""),),
            states=nothing,  # type: ignore[arg-type]
            outbox=nothing,  # type: ignore[arg-type]
        )
        running = asyncio.create_task(intake.run())
        yield dispatcher, intake
        intake.stop()
        await running


async def consume(task: Task, handler: Handler, stop: asyncio.Event) -> None:
    async def handle(work: Work[bytes]) -> Done[Publication]:
        await handler(work.item)
        return _DONE

    limits = Limits(concurrency=task.concurrency, **task.settings.get("limits", {}))
    options = IntakeOptions(group=task.group, **task.settings.get("intake", {}))
    async with moorage(task, handle, limits, options):
        await handler.all_handled.wait()
    await stop.wait()


if __name__ == "__main__":
    configure_logging("warning")  # also because standard output is for talking to the runner
    main(consume)
