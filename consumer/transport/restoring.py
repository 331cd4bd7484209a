"""Reading partitions of the state topic from their beginning to where they end now."""

import asyncio
from collections.abc import Callable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.transport.connection import Connection
from consumer.transport.remembered import Remembered
from consumer.transport.stopping import stop_client
from schemas.state import ReservationState
from schemas.state_index import decode_state

log = structlog.get_logger("moorage.states")

_STOPPING = 5.0
_REPORTED_EVERY = 5.0

_AT_ONCE = 2_000
"""Records between two turns of the event loop: some ten milliseconds."""

_FETCH_BYTES = 4 << 20
_FETCH_WAIT_MS = 20
"""How long a broker may wait for records where there are none: partitions that are read to their end must not hold up
the others, which are asked for together with them."""


async def read_states(
    connection: Connection,
    topic: str,
    partitions: Iterable[int],
    *,
    wanted: Callable[[], bool] = lambda: True,
    decode: Callable[[bytes], ReservationState] = decode_state,
) -> dict[int, Remembered]:
    """What is remembered in these partitions of the state topic.

    Logs how far it is every few seconds. Stops early, with part of it, when it is no longer `wanted`. Raises
    `KafkaError`.
    """
    restored = {partition: Remembered(partition, decode) for partition in sorted(partitions)}
    if not restored:
        return restored
    consumer = connection.consumer(
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        await consumer.start()
        await _read(consumer, topic, restored, wanted)
    finally:
        await stop_client(consumer, _STOPPING)
    return restored


async def _read(
    consumer: AIOKafkaConsumer, topic: str, restored: dict[int, Remembered], wanted: Callable[[], bool]
) -> None:
    tps = [TopicPartition(topic, partition) for partition in restored]
    consumer.assign(tps)
    ends = await consumer.end_offsets(tps)
    await consumer.seek_to_beginning(*tps)
    positions = {tp: await consumer.position(tp) for tp in tps}
    total = sum(ends.values()) - sum(positions.values())
    behind = [tp for tp in tps if positions[tp] < ends[tp]]
    reported = asyncio.get_running_loop().time()
    while behind and wanted():
        for tp, records in (await consumer.getmany(*behind, timeout_ms=500, max_records=_AT_ONCE)).items():
            load = restored[tp.partition].load
            for record in records:
                load(record.offset, record.key, record.value, record.headers)
        positions |= {tp: await consumer.position(tp) for tp in behind}
        behind = [tp for tp in behind if positions[tp] < ends[tp]]
        if (now := asyncio.get_running_loop().time()) - reported >= _REPORTED_EVERY:
            reported = now
            left = sum(ends[tp] - positions[tp] for tp in behind)
            log.info("state_restoring", partitions=len(behind), done=total - left, total=total)
        await asyncio.sleep(0)  # what is fetched already comes without a turn of the loop
