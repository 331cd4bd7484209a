"""FastStream with its ordered concurrency: eight workers in one group, partitions divided among them, manual commits.

Messages reach the handler as bytes, without FastStream's dependency injection, which is its fastest way.
"""
# Its packages are in a virtual environment of their own.
# mypy: ignore-errors

import asyncio

from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from benchmarks.contestants.harness import Handler, Task, main


async def consume(task: Task, handler: Handler, stop: asyncio.Event) -> None:
    broker = KafkaBroker(task.bootstrap, logger=None, apply_types=False)

    async def as_bytes(message: KafkaMessage) -> bytes:
        return message.body

    @broker.subscriber(
        task.topic,
        group_id=task.group,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
        decoder=as_bytes,
        **task.settings,
    )
    async def take(body: bytes) -> None:
        await handler(body)

    await broker.start()
    await stop.wait()
    await broker.stop()


if __name__ == "__main__":
    main(consume)
