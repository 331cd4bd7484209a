"""The whole of Moorage with a runtime that never answers: says HELD when it holds all records of its task."""

import asyncio

from benchmarks.contestants.harness import Task, run, say
from benchmarks.contestants.service import service_on
from consumer.provisioners.memory import Call, MemoryEngine


async def hold(task: Task, stop: asyncio.Event) -> None:
    async def never(call: Call) -> None:
        if call.operation != "ping":
            await asyncio.Event().wait()

    service = service_on(task, MemoryEngine(never))
    serving = asyncio.create_task(service.run())
    # Not `unfinished()`: making that list would take some of the memory that is to be measured.
    while (now := service.liveness()) is None or now.outstanding < task.records:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.1)
    say("HELD")
    await stop.wait()
    service.stop()
    await serving


if __name__ == "__main__":
    run(hold)
