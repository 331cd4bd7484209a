"""Pyrallel Consumer with its asyncio engine, ordered by key. It commits by itself as work completes.

Its `max_in_flight` bounds what is queued and what runs together, and it stops reading at that bound. So that a busy
key's queue does not keep the others out, the bound is set higher here, and the slots are counted by a semaphore.
"""
# Its packages are in a virtual environment of their own.
# mypy: ignore-errors

import asyncio

from pyrallel_consumer.config import ExecutionConfig, KafkaConfig, ParallelConsumerConfig
from pyrallel_consumer.consumer import PyrallelConsumer
from pyrallel_consumer.dto import ExecutionMode, OrderingMode, WorkItem

from benchmarks.contestants.harness import Handler, Task, main


async def consume(task: Task, handler: Handler, stop: asyncio.Event) -> None:
    slots = asyncio.Semaphore(task.concurrency)

    async def work(item: WorkItem) -> None:
        async with slots:
            await handler(item.payload)

    settings = dict(task.settings)
    execution = ExecutionConfig(mode=ExecutionMode.ASYNC, max_in_flight=settings.pop("max_in_flight"))
    config = KafkaConfig(
        BOOTSTRAP_SERVERS=task.bootstrap,
        CONSUMER_GROUP=task.group,
        dlq_enabled=False,
        parallel_consumer=ParallelConsumerConfig(ordering_mode=OrderingMode.KEY_HASH, execution=execution, **settings),
    )
    consumer = PyrallelConsumer(config, work, task.topic)
    await consumer.start()
    await stop.wait()
    await consumer.stop()


if __name__ == "__main__":
    main(consume)
