"""Reading what was committed: offsets with their metadata, which aiokafka's consumer does not give away."""

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from consumer.dispatch.offset_map import OffsetMap, OffsetMapError
from consumer.transport.connection import Connection
from consumer.transport.stopping import stop_client

log = structlog.get_logger("moorage.offsets")

_ATTEMPTS = 3
_PATIENCE = 5.0
_STOPPING = 2.0


async def read_offset_maps(
    connection: Connection, group: str, positions: dict[TopicPartition, int]
) -> dict[TopicPartition, OffsetMap]:
    """What earlier owners had done above these positions, for the partitions where that is known.

    Never fails: without a map, work that was done is only done once more. `positions` are where consuming begins; a map
    that was committed with another offset (an operator has reset it) or by a version of Moorage to come is left aside.
    """
    try:
        metadata = await _metadata(connection, group, positions)
    except (KafkaError, OSError, ValueError, IndexError) as error:
        log.warning(
            "offset_maps_unreadable",
            why=f"{type(error).__name__}: {error}",
            consequence="what was done above the committed offsets is repeated",
        )
        return {}
    maps = {}
    for tp, text in metadata.items():
        try:
            if text:
                maps[tp] = OffsetMap.decode(text, positions[tp])
        except OffsetMapError as error:
            log.warning("offset_map_ignored", partition=f"{tp.topic}/{tp.partition}", why=str(error))
    return maps


async def _metadata(
    connection: Connection, group: str, positions: dict[TopicPartition, int]
) -> dict[TopicPartition, str]:
    """The metadata of those partitions whose committed offset is the position."""
    admin = connection.admin()
    try:
        async with asyncio.timeout(_PATIENCE):
            await admin.start()
            for attempt in range(_ATTEMPTS):
                found = await admin.list_consumer_group_offsets(group, partitions=_sorted(positions))
                # A coordinator that has just started may know of nothing yet, and does not say so.
                if any(committed.offset >= 0 for committed in found.values()) or not any(positions.values()):
                    break
                await asyncio.sleep(0.2 * (attempt + 1))
    finally:
        await stop_client(admin, _STOPPING)
    return {tp: committed.metadata for tp, committed in found.items() if committed.offset == positions.get(tp)}


def _sorted(partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
    return sorted(partitions)
