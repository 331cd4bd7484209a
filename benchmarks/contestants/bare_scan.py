"""aiokafka alone, reading a topic from its beginning to its end without a group, and keeping nothing."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.contestants.harness import Task, run, say


async def scan(task: Task, stop: asyncio.Event) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=task.bootstrap, enable_auto_commit=False, fetch_max_wait_ms=20)
    await consumer.start()
    try:
        tps = [TopicPartition(task.topic, partition) for partition in range(task.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        left = task.records
        while left:
            left -= sum(map(len, (await consumer.getmany(*tps, timeout_ms=500, max_records=2000)).values()))
        say("HANDLED")
        await stop.wait()
    finally:
        await consumer.stop()


if __name__ == "__main__":
    run(scan)
