"""A state topic in memory, with states to put into it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from consumer.dispatch import Assignment
from consumer.transport.memory import MemoryBroker
from consumer.transport.states import StateTopic
from schemas.events import Resource, User
from schemas.state import Phase, ReservationState
from schemas.state_index import STATE_HEADER, index_bytes

STATE, INBOUND = "state", "reservations"
TEN = datetime(2026, 3, 2, 10, tzinfo=UTC)


def state(reservation_id: str = "1841", **changes: Any) -> ReservationState:
    """A reservation that was released at ten, which is when it ended."""
    facts: dict[str, Any] = {
        "reservation_id": reservation_id,
        "phase": Phase.RELEASED,
        "revision": "0123456789ab",
        "start": TEN - timedelta(hours=2),
        "end": TEN,
        "user": User("17", "mario_rossi"),
        "resource": Resource("12", "GPU Server 1"),
        "changed_at": TEN,
    }
    return ReservationState(**facts | changes)


def store(broker: MemoryBroker, value: ReservationState, *, partition: int = 0, indexed: bool = True) -> None:
    """Publish a state, as a Moorage does or, without an index, as one of the first did."""
    headers = ((STATE_HEADER, index_bytes(value)),) if indexed else ()
    broker.append(STATE, value.to_bytes(), value.reservation_id.encode(), headers, partition=partition)


def owned(*partitions: int, topic: str = INBOUND) -> list[Assignment]:
    return [Assignment(topic, partition) for partition in partitions]


async def restored(broker: MemoryBroker, assignments: list[Assignment]) -> StateTopic:
    """What a member has in memory that took these over."""
    states = StateTopic(broker.connection(), STATE)
    await states.restore(assignments)
    return states
