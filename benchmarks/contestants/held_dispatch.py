"""Moorage's consumer with handlers that never return: says HELD when it holds all records of the task."""

import asyncio

from benchmarks.contestants.harness import Task, run, say
from benchmarks.contestants.moorage import consuming
from consumer.dispatch import Done, Limits, Work
from consumer.ops.logging import configure_logging
from consumer.transport import Connection, KeyedConsumer, Options, Outgoing, Record


async def hold(task: Task, stop: asyncio.Event) -> None:
    async def never(work: Work[Record]) -> Done[Outgoing]:
        await asyncio.Event().wait()
        raise AssertionError("it never returns")

    limits = Limits(max_records=task.records, concurrency=task.concurrency)
    options = Options(group=task.group, limits=limits, drain_timeout=0.1)
    consumer = KeyedConsumer(Connection(task.bootstrap), [task.topic], never, options)
    async with consuming(consumer):
        while (now := consumer.liveness()) is None or now.outstanding < task.records:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)
        say("HELD")
        await stop.wait()


if __name__ == "__main__":
    configure_logging("error")
    run(hold)
