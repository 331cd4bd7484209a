"""Stopping aiokafka's clients, whatever state they and the brokers are in."""

import asyncio
from typing import Any


async def stop_client(client: Any, within: float) -> str | None:
    """Stop a client; why that did not work within so many seconds, or None when it did. Only cancelling raises.

    What a client still waits for when it is told to stop, nobody else does.
    """
    # In a task of its own, since `stop` lets cancellations of its own requests escape: they are not ours.
    stopping = asyncio.ensure_future(client.stop() if hasattr(client, "stop") else client.close())
    try:
        await asyncio.wait({stopping}, timeout=within)
    finally:
        if not stopping.done():
            stopping.cancel()
    if not stopping.done():
        return f"silent for {within:g} s"
    if stopping.cancelled():
        return "requests were cut off"
    error = stopping.exception()
    return f"{type(error).__name__}: {error}" if error is not None else None
