"""aiokafka alone, reading as fast as it goes and committing each batch. With `answers`, a topic, it also produces."""

import asyncio
from itertools import chain

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contestants.harness import Task, run, say


async def read(task: Task, stop: asyncio.Event) -> None:
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    producer = AIOKafkaProducer(bootstrap_servers=task.bootstrap, enable_idempotence=True)
    answers, left = task.settings.get("answers"), task.records
    await consumer.start()
    await producer.start()
    try:
        while left:
            records = list(chain.from_iterable((await consumer.getmany(timeout_ms=1000, max_records=1000)).values()))
            if answers:
                await asyncio.gather(*[await producer.send(answers, each.value, each.key) for each in records])
            await consumer.commit()
            left -= len(records)
        say("HANDLED")
        await stop.wait()
    finally:
        await consumer.stop()
        await producer.stop()


if __name__ == "__main__":
    run(read)
