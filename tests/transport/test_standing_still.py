"""A process that stood still may have lost its partitions: until the group has told, it publishes nothing."""

import asyncio

import pytest
from aiokafka import TopicPartition
from structlog.testing import capture_logs

from consumer.dispatch import Done, Verdict, Work
from consumer.transport import KeyedConsumer, Options, Outgoing, Record
from consumer.transport.memory import Faults, MemoryBroker, Operation
from tests.virtual_clock import VirtualClockLoop

SESSION = 6.0


class Billing:
    """A consumer whose handler makes an invoice of each order, and can be told to take a while in which all stops."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.broker = MemoryBroker(faults)
        self.broker.create_topic("orders")
        self.broker.create_topic("invoices")
        self.handled = 0
        self.stops_for = 0.0
        self.consumer = KeyedConsumer(
            self.broker.connection(), ["orders"], self.handle, Options(group="billing", session_timeout=SESSION)
        )

    async def handle(self, work: Work[Record]) -> Verdict[Outgoing]:
        self.handled += 1
        if self.stops_for:
            stand_still(self.stops_for)
            self.stops_for = 0.0
            group = self.broker.group("billing")
            for member in list(group.members):
                group.leave(member)  # the broker's clock went on
        return Done((Outgoing("invoices", str(self.handled).encode(), work.item.key),))

    def order(self) -> None:
        self.broker.append("orders", b"apples", key=b"one")

    @property
    def invoices(self) -> list[bytes | None]:
        return [record.value for record in self.broker.log(TopicPartition("invoices", 0)).records]


def stand_still(seconds: float) -> None:
    """Let time pass while nothing runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    loop._clock.now += seconds


async def test_an_outcome_of_a_partition_that_was_lost_meanwhile_is_never_published() -> None:
    billing = Billing()
    running = asyncio.create_task(billing.consumer.run())
    await asyncio.sleep(10)
    billing.stops_for = 2 * SESSION
    billing.order()
    await asyncio.sleep(60)
    assert (billing.handled, billing.invoices) == (2, [b"2"])
    billing.consumer.stop()
    assert await running


async def test_an_outcome_of_a_partition_that_was_kept_is_published_later_and_not_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    billing = Billing()
    running = asyncio.create_task(billing.consumer.run())
    await asyncio.sleep(10)
    intake = billing.consumer._intake
    monkeypatch.setattr(intake, "_awake_at", asyncio.get_running_loop().time() - 2 * SESSION)
    billing.order()
    await asyncio.sleep(1)
    assert (billing.handled, billing.invoices) == (1, [])
    await asyncio.sleep(5)
    assert (billing.handled, billing.invoices) == (1, [b"1"])
    billing.consumer.stop()
    assert await running


async def test_who_stops_while_the_group_has_not_told_yet_leaves_the_outcome_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    billing = Billing()
    running = asyncio.create_task(billing.consumer.run())
    await asyncio.sleep(10)
    monkeypatch.setattr(billing.consumer._intake, "_suspect_until", float("inf"))
    billing.order()
    await asyncio.sleep(5)
    billing.consumer.stop()
    assert not await running
    assert (billing.handled, billing.invoices) == (1, [])


class SlowToSettle(Faults):
    """The group takes its time."""

    async def at(self, client: str, operation: Operation, *, applied: bool) -> None:
        if operation == "join" and not applied:
            await asyncio.sleep(2 * SESSION)


async def test_a_group_that_takes_long_to_settle_is_not_taken_for_that() -> None:
    billing = Billing(SlowToSettle())
    billing.order()
    with capture_logs() as logs:
        running = asyncio.create_task(billing.consumer.run())
        await asyncio.sleep(2 * SESSION + 2)
        assert (billing.handled, billing.invoices) == (1, [b"1"])
        billing.consumer.stop()
        assert await running
    assert [each["event"] for each in logs if each["event"] in ("stood_still", "handler_crashed")] == []
