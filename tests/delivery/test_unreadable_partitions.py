"""What the Kafka client itself cannot take apart holds up its own partition, and nobody else."""

from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator, producer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from tests.support.installation import Installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.service import DoubleService
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]


class Latin1(str):
    """Text that is not UTF-8 on the wire, as a header's name has to be."""

    __slots__ = ()

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return super().encode("latin-1")


@pytest.fixture
def publish_unreadable(monkeypatch: pytest.MonkeyPatch, ours: Installation) -> Callable[..., object]:
    # The builder in C insists on text that really is text.
    for module in (message_accumulator, producer):
        monkeypatch.setattr(module, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)

    async def publish(value: bytes, partition: int) -> None:
        client = AIOKafkaProducer(bootstrap_servers=ours.kafka.bootstrap_servers)
        await client.start()
        try:
            headers = [(Latin1("ré"), b"")]
            await client.send_and_wait(ours.names.inbound, value, partition=partition, headers=headers)
        finally:
            await client.stop()

    return publish


async def test_others_go_on_and_nothing_around_it_is_lost(
    ours: Installation, publish_unreadable: Callable[..., object]
) -> None:
    unreadable, kept_back = Booking("unreadable"), Booking("kept back")
    before = [Booking(f"before-{number}") for number in range(20)]
    for booking in before:
        ours.publish(Message(booking.start_event(), partition=len(booking.id) % 8))
        ours.publish(Message(booking.start_event(), partition=3))
    await publish_unreadable(unreadable.start_event(), 3)  # type: ignore[misc]
    ours.publish(Message(kept_back.start_event(), partition=3))

    with ours.service(kind=DoubleService) as service:
        service.wait_for("partition_unreadable")
        after = [Booking(f"after-{number}") for number in range(20)]
        ours.publish(*(Message(booking.start_event(), partition=number % 3) for number, booking in enumerate(after)))
        eventually(
            lambda: ours.kafka.lag(ours.names.group, ours.names.inbound) == {3: 2}, what="all but what is behind it"
        )
        assert service.stop() == 0
    told = {reservation: len(results) for reservation, results in ours.look().results.items()}
    assert told == {booking.id: 2 for booking in before} | {booking.id: 1 for booking in after}
