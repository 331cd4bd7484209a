"""Publishing an operator's event, and following what comes of it."""

import asyncio
import secrets
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from consumer.cli.console import Exit
from consumer.cli.outbound import body_of
from consumer.cli.text import clock, line, note, problem
from consumer.parts import connection_of, topics_of
from consumer.settings import Settings
from consumer.transport.publisher import Publisher
from consumer.transport.reader import Reader
from schemas.events import EventKind
from schemas.outbound import Outcome, Result


@dataclass(frozen=True, slots=True)
class Order:
    """An event to publish, and the outcomes that are `good`.

    `partition` is where the state of the reservation lies: whoever owns it remembers the reservation, and whoever
    owns another may not.
    """

    kind: EventKind
    reservation: str
    value: bytes
    partition: int | None
    question: str
    good: frozenset[Outcome]


async def carry_out(settings: Settings, topic: str, order: Order, wait: float | None) -> Exit:
    """Publish, and with `wait` (seconds) say what came of it. Raises `TransportError` when it was not published."""
    connection = connection_of(settings)
    # What comes of an event carries its trace on, which tells it from all else that happens to the reservation.
    trace = secrets.token_hex(16)
    headers = [("traceparent", f"00-{trace}-{secrets.token_hex(8)}-01".encode())]
    async with AsyncExitStack() as stack:
        reader = None
        if wait is not None:  # from before the event is there, so that no answer is too quick
            reader = await stack.enter_async_context(Reader(connection, topics_of(settings).outbound))
        publisher = await stack.enter_async_context(Publisher(connection))
        there = await publisher.partitions(topic)
        partition, offset = await publisher.send(
            topic,
            order.value,
            key=order.reservation.encode(),
            headers=headers,
            partition=order.partition if order.partition in there else None,
        )
        line(f"{topic}/{partition}/{offset}", order.kind, order.reservation)
        if reader is None or wait is None:
            return Exit.OK
        note(f"waiting up to {wait:g} s for what comes of it")
        return _told(order, await _answer(reader, trace, wait), wait)


async def _answer(reader: Reader, trace: str, seconds: float) -> Result | None:
    """The result that carries this trace, or None when none came in time."""
    try:
        async with asyncio.timeout(seconds), aclosing(reader.follow(from_beginning=False)) as messages:
            async for message in messages:
                if trace in (message.header("traceparent") or ""):
                    body = body_of(message)
                    if isinstance(body, Result):
                        return body
    except TimeoutError:
        pass
    return None


def _told(order: Order, result: Result | None, waited: float) -> Exit:
    if result is None:
        problem(
            f"No result came within {waited:g} s. The event is published and takes effect when a running Moorage "
            f"comes to it; `moorage watch` and `moorage dlq list` show what becomes of it."
        )
        return Exit.UNFINISHED
    why = f"{result.reason.code}: {result.reason.message}" if result.reason else None
    until = clock(result.end) if order.kind is EventKind.UPDATED else None
    line(clock(result.occurred_at), result.event_id, result.outcome, until, why)
    if result.outcome not in order.good:
        problem(f"{order.reservation} {_failure(order, result)}: {why}")
        return Exit.FAILED
    return Exit.OK


def _failure(order: Order, result: Result) -> str:
    if order.kind is not EventKind.UPDATED:
        return "was not released"
    if result.outcome is Outcome.FAILED:  # the new end holds, and a start that comes later may do better
        return f"lasts until {clock(result.end)} now, but its environment could not be started"
    return "was not extended"
