"""aiokafka alone, as fast as it goes: a batch at a time, all of it at once. It keeps no order."""

import asyncio
from itertools import chain

from aiokafka import AIOKafkaConsumer

from benchmarks.contestants.harness import Handler, Task, main


async def consume(task: Task, handler: Handler, stop: asyncio.Event) -> None:
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **task.settings,
    )
    await consumer.start()
    try:
        while not handler.all_handled.is_set():
            batches = await consumer.getmany(timeout_ms=1000, max_records=task.concurrency)
            await asyncio.gather(*(handler(record.value) for record in chain.from_iterable(batches.values())))
            await consumer.commit()
        await stop.wait()
    finally:
        await consumer.stop()


if __name__ == "__main__":
    main(consume)
