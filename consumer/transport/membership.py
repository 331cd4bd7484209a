"""What aiokafka keeps to itself about its membership in a group, and what to do about it.

These are its private parts (aiokafka 0.14), so all of them are looked at here, and a client without them does without.
"""

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from consumer.transport.stopping import stop_client

_PROMPT = 0.5
_PATIENCE = 2.0


def was_thrown_out(consumer: Any) -> bool:
    """Whether the group has given this member's partitions to others already: nothing can be committed any more."""
    return bool(getattr(_coordinator(consumer), "generation", 0) < 0)


def is_lost(consumer: Any) -> bool:
    """Whether the tasks that keep the membership have died, which the client does not mend by itself."""
    coordinator = _coordinator(consumer)
    tasks = (getattr(coordinator, "_coordination_task", None), getattr(coordinator, "_heartbeat_task", None))
    return any(task is not None and task.done() for task in tasks)


async def leave(consumer: Any, group: str, *, is_static: bool, within: float) -> str | None:
    """Stop the consumer and leave the group; why that did not work within so many seconds, or None when it did.

    A client that waits for others to join does not leave until they did, and its partitions would wait for the session
    to time out. So its leaving is told to the group beside it.
    """
    stopping = asyncio.ensure_future(stop_client(consumer, within))
    try:
        await asyncio.wait({stopping}, timeout=_PROMPT)
        if not stopping.done() and not is_static:
            await _tell_the_group(consumer, group)
        return await stopping
    finally:
        stopping.cancel()


async def _tell_the_group(consumer: Any, group: str) -> None:
    coordinator, client = _coordinator(consumer), getattr(consumer, "_client", None)
    member, broker = getattr(coordinator, "member_id", None), getattr(coordinator, "coordinator_id", None)
    if client is None or not member or broker is None:
        return
    with suppress(KafkaError, OSError):
        async with asyncio.timeout(_PATIENCE):
            # Not through the connection that coordination uses: the request to join occupies that one.
            await client.send(broker, LeaveGroupRequest(group, member))


def _coordinator(consumer: Any) -> Any:
    return getattr(consumer, "_coordinator", None)
