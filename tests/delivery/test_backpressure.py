"""Memory is bounded whatever comes: intake takes in what there is room for, and everything is handled all the same.

Moorage in this process on a real Kafka, with the in-memory runtime; what it holds is counted at each admission.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from consumer.app import Moorage
from consumer.catalog.templates import Catalog, Defaults
from consumer.dispatch import Dispatcher
from consumer.provisioners.memory import MemoryEngine, MemoryProvisioner
from consumer.settings import Settings
from tests.services import KafkaBroker
from tests.support.installation import Installation, installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.payloads import batch as batch_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@dataclass
class Held:
    """What the dispatcher held right after each record that it took in."""

    items: list[int] = field(default_factory=list)
    largest_record: int = 0


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    admit = Dispatcher.admit

    def counted(self: Any, assignment: Any, offset: int, parts: Any, size: int = 0) -> None:
        admit(self, assignment, offset, parts, size)
        held.items.append(self.outstanding)
        held.largest_record = max(held.largest_record, len(parts))

    monkeypatch.setattr(Dispatcher, "admit", counted)
    return held


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A line for each of so many records would be most of the work."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.configure(**before)


@pytest.fixture
def ours(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Installation]:
    with installation(kafka.bootstrap_servers, tmp_path) as ours:
        yield ours


async def serve_until_done(ours: Installation, **settings: Any) -> None:
    """Handle everything that lies in the reservation topic, with slow handlers."""
    wanted = Settings(**ours.settings, **settings)  # type: ignore[arg-type]
    engine = MemoryEngine(latency=0.002)
    service = Moorage(
        wanted,
        catalog=Catalog.from_defaults(Defaults(runtime="docker"), instance=wanted.instance),
        provisioners={"docker": MemoryProvisioner(engine, instance=wanted.instance, runtime="docker")},
    )
    serving = asyncio.create_task(service.run())
    while await asyncio.to_thread(ours.kafka.lag, ours.names.group, ours.names.inbound):
        assert not serving.done()
        await asyncio.sleep(0.2)
    service.stop()
    assert await serving


async def test_twenty_thousand_records_are_handled_and_few_are_held(ours: Installation, held: Held) -> None:
    bookings = [Booking(str(number)) for number in range(100)]
    starts = [Message(booking.start_event(), booking.id.encode()) for booking in bookings]
    await asyncio.to_thread(ours.publish, *starts * 200)
    await serve_until_done(ours, MOORAGE_MAX_BUFFERED_RECORDS=500)
    assert max(held.items) <= 500
    assert len(held.items) == 20_000
    assert await asyncio.to_thread(ours.kafka.count, ours.names.outbound) >= 20_000


async def test_batches_overrun_the_limit_by_less_than_one_of_them(ours: Installation, held: Held) -> None:
    over = Booking("", start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 1, 2, tzinfo=UTC))
    batches = [[over.but(id=f"{batch}-{number}") for number in range(100)] for batch in range(40)]
    await asyncio.to_thread(ours.publish, *(Message(batch_of("EVENT_START", "u", each)) for each in batches))
    await serve_until_done(ours, MOORAGE_MAX_BUFFERED_RECORDS=250)
    assert held.largest_record == 100
    assert max(held.items) < 250 + 100
    seen = ours.look()
    assert await asyncio.to_thread(seen.unanswered, exactly=True) == []
    assert {seen.told(booking.id) for each in batches for booking in each} == {
        (("EVENT_START", "skipped", "already_over"),)
    }
