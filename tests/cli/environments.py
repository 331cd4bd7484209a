"""Environments that run and states that are remembered, as the service leaves them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from consumer.catalog.environment import EnvironmentSpec, Port
from consumer.catalog.identity import environment_name, reservation_key
from consumer.provisioners.memory import MemoryProvisioner
from consumer.reservations import Decision, decide
from schemas.events import ReservationEvent, Resource, User
from schemas.inbound import decode
from schemas.state import Phase, ReservationState
from tests.support.kafka import Kafka, Message, Names

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)
END = NOW + timedelta(hours=2)
USER = User("5f0c", "mario_rossi", "mario@example.org", "ssh-ed25519 AAAA")
RESOURCE = Resource("12", "GPU Server 1", "Shell", "2 vCPU", "Rack 4", "0a8a", "Turin")

EXTEND = ("extend", "1841", "--by", "1h", "--yes")
RELEASE = ("release", "1841", "--yes")


def run(provisioner: MemoryProvisioner | Exception, reservation: str, user: User = USER, until: datetime = END) -> str:
    """Make an environment; its name."""
    assert isinstance(provisioner, MemoryProvisioner)
    spec = EnvironmentSpec(
        name=environment_name("default", reservation, user, RESOURCE),
        key=reservation_key("default", reservation),
        runtime="memory",
        template="default",
        image="nginx",
        user=user,
        resource=RESOURCE,
        reservation_id=reservation,
        expires_at=until,
        ports=(Port(80, host=8080),),
    )
    asyncio.run(provisioner.ensure(spec, lambda progress: None))
    return spec.name


def state_of(reservation: str, **changes: Any) -> ReservationState:
    facts: dict[str, Any] = {
        "reservation_id": reservation,
        "phase": Phase.ACTIVE,
        "revision": "1",
        "start": NOW - timedelta(hours=1),
        "end": END,
        "user": USER,
        "resource": RESOURCE,
        "start_seen": True,
        "runtime": "memory",
        "changed_at": NOW,
    }
    return ReservationState(**facts | changes)


def state(reservation: str, *, partition: int | None = None, **changes: Any) -> Message:
    """The state as a record of its topic."""
    return Message(state_of(reservation, **changes).to_bytes(), reservation.encode(), partition=partition)


def event_of(message: Message) -> ReservationEvent:
    (event,) = decode(message.value)
    assert isinstance(event, ReservationEvent)
    return event


def published(topics: Kafka, names: Names) -> tuple[Message, ReservationEvent]:
    (message,) = topics.read(names.inbound)
    return message, event_of(message)


def means(known: ReservationState, event: ReservationEvent) -> Decision:
    return decide(known, event, datetime.now(UTC))
