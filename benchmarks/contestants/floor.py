"""No Kafka at all: the trace in memory, a task for each key, a semaphore for the slots. What asyncio itself costs."""

import asyncio
import json
from collections import defaultdict
from pathlib import Path

from benchmarks.contestants.harness import Handler, Task, main


async def consume(task: Task, handler: Handler, stop: asyncio.Event) -> None:
    trace = Path(task.settings["trace"]).read_text()  # noqa: ASYNC240 - nothing else runs yet
    slots = asyncio.Semaphore(task.concurrency)

    async def work_through(values: list[bytes]) -> None:
        for value in values:
            async with slots:
                await handler(value)

    lanes: dict[str, list[bytes]] = defaultdict(list)
    for key, value in json.loads(trace):
        lanes[key].append(value.encode())
    async with asyncio.TaskGroup() as tasks:
        for values in lanes.values():
            tasks.create_task(work_through(values))
    await stop.wait()


if __name__ == "__main__":
    main(consume)
