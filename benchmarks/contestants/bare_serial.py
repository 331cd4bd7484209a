"""aiokafka alone, keeping order the simple way: one record at a time in each partition, partitions side by side."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

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
    done: dict[TopicPartition, int] = {}

    async def read(partition: TopicPartition) -> None:
        while True:
            for record in (await consumer.getmany(partition, timeout_ms=1000)).get(partition, ()):
                await handler(record.value)
                done[partition] = record.offset + 1

    async def commit_regularly() -> None:
        while True:
            await asyncio.sleep(1)
            if done:
                await consumer.commit(dict(done))

    await consumer.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(read(TopicPartition(task.topic, each))) for each in range(task.partitions)]
            running.append(tasks.create_task(commit_regularly()))
            await handler.all_handled.wait()
            for each in running:
                each.cancel()
        await consumer.commit(done)
        await stop.wait()
    finally:
        await consumer.stop()


if __name__ == "__main__":
    main(consume)
