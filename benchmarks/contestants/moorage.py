"""Moorage's consumer with the sleeping handler: lanes, bounds, watermark commits, retries, draining.

It publishes nothing and remembers nothing here, as its peers do.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.contestants.harness import Handler, Task, main
from consumer.dispatch import Done, Limits, Work
from consumer.ops.logging import configure_logging
from consumer.transport import Connection, KeyedConsumer, Options, Outgoing, Record

_DONE: Done[Outgoing] = Done()


@asynccontextmanager
async def consuming(consumer: KeyedConsumer[Record]) -> AsyncIterator[None]:
    """Consume for as long as the block lasts, then drain, commit and leave the group."""
    running = asyncio.create_task(consumer.run())
    yield
    consumer.stop()
    await running


async def consume(task: Task, handler: Handler, stop: asyncio.Event) -> None:
    async def handle(work: Work[Record]) -> Done[Outgoing]:
        await handler(work.item.value or b"")
        return _DONE

    options = Options(group=task.group, limits=Limits(concurrency=task.concurrency), **task.settings)
    async with consuming(KeyedConsumer(Connection(task.bootstrap), [task.topic], handle, options)):
        await handler.all_handled.wait()
    await stop.wait()


if __name__ == "__main__":
    configure_logging("warning")  # also because standard output is for talking to the runner
    main(consume)
