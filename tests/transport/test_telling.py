"""What nobody depends on goes out ahead of what follows it, once, and only while nothing is in its way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from consumer.transport.memory import Faults, MemoryBroker, Operation
from consumer.transport.outbox import Outbox
from consumer.transport.outgoing import Outgoing


class Refusals(Faults):
    """Raises these errors for what is produced, and waits so long before it takes anything."""

    def __init__(self, *errors: KafkaError, takes: float = 0.0) -> None:
        self.errors = list(errors)
        self.takes = takes

    async def at(self, client: str, operation: Operation, *, applied: bool) -> None:
        if operation == "produce" and not applied:
            await asyncio.sleep(self.takes)
            if self.errors:
                raise self.errors.pop(0)


@asynccontextmanager
async def outbox(broker: MemoryBroker) -> AsyncIterator[Outbox]:
    box = Outbox(broker.connection())
    sending = asyncio.create_task(box.run())
    await box.publish([message("first")])
    try:
        yield box
    finally:
        sending.cancel()
        await asyncio.wait([sending])


def broker_with(faults: Faults | None = None) -> MemoryBroker:
    broker = MemoryBroker(faults)
    broker.create_topic("out")
    return broker


def message(text: str) -> Outgoing:
    return Outgoing("out", text.encode(), b"1841")


def said(broker: MemoryBroker) -> list[str]:
    return [(record.value or b"").decode() for record in broker.log(TopicPartition("out", 0)).records]


async def test_it_goes_ahead_of_all_that_is_handed_in_afterwards() -> None:
    broker = broker_with(Refusals(takes=0.1))
    async with outbox(broker) as box:
        for number in range(20):
            assert box.tell(message(f"told {number}"))
            result = box.publish([message(f"result {number}")])
        await result
    assert said(broker) == ["first", *(f"{kind} {number}" for number in range(20) for kind in ("told", "result"))]


async def test_one_that_is_refused_is_dropped_and_what_follows_is_not() -> None:
    faults = Refusals()
    broker = broker_with(faults)
    async with outbox(broker) as box:
        faults.errors.append(TopicAuthorizationFailedError())
        assert box.tell(message("told"))
        await asyncio.sleep(30)
        assert box.healthy
        await box.publish([message("result")])
    assert said(broker) == ["first", "result"]


async def test_one_that_is_too_large_is_dropped() -> None:
    broker = broker_with()
    async with outbox(broker) as box:
        assert box.tell(message("x" * 2_000_000))
        await box.publish([message("result")])
    assert said(broker) == ["first", "result"]


async def test_nothing_is_told_while_publishing_fails_or_is_behind() -> None:
    faults = Refusals()
    broker = broker_with(faults)
    async with outbox(broker) as box:
        faults.errors.append(TopicAuthorizationFailedError())
        failing = box.publish([message("result")])
        while box.healthy:  # noqa: ASYNC110 - nobody is told when it is not
            await asyncio.sleep(0.01)
        assert not box.tell(message("told"))
        await failing

        acked = [box.publish([message("more")]) for _ in range(100)]
        assert not box.tell(message("told"))
        await asyncio.gather(*acked)
        assert box.tell(message("told"))
        await box.publish([message("last")])
    assert [text for text in said(broker) if text != "more"] == ["first", "result", "told", "last"]


async def test_nobody_waits_for_it() -> None:
    broker = broker_with(Refusals(takes=5.0))
    async with outbox(broker) as box:
        assert box.tell(message("told"))
        assert box.unacknowledged == 0
        assert await box.flush(0.01)


async def test_before_a_broker_answered_nothing_is_told() -> None:
    broker = broker_with()
    assert not Outbox(broker.connection()).tell(message("told"))
