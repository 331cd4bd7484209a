"""Moorage's intake and dispatcher with handlers that never return: says HELD when they hold all records of the task."""

import asyncio

from benchmarks.contestants.harness import Task, run, say
from benchmarks.contestants.moorage import moorage
from consumer.dispatch import Done, Limits, Work
from consumer.handling.publications import Publication
from consumer.ops.logging import configure_logging
from consumer.transport.intake import IntakeOptions


async def hold(task: Task, stop: asyncio.Event) -> None:
    async def never(work: Work[bytes]) -> Done[Publication]:
        await asyncio.Event().wait()
        raise AssertionError("it never returns")

    limits = Limits(max_records=task.records, concurrency=task.concurrency)
    async with moorage(task, never, limits, IntakeOptions(group=task.group, drain_timeout=0.1)) as (dispatcher, _):
        while dispatcher.outstanding < task.records:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)
        say("HELD")
        await stop.wait()


if __name__ == "__main__":
    configure_logging("error")
    run(hold)
