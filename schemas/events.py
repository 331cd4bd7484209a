"""What the platform's many payload shapes come to: three kinds of event, one meaning each.

These are plain frozen data classes: thousands of them wait in memory at a time, and everything that could be
wrong with them was checked when they were decoded (`schemas.inbound`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    """The platform's `eventType` for events about one reservation."""

    CREATED = "EVENT_CREATED"
    UPDATED = "EVENT_UPDATED"
    DELETED = "EVENT_DELETED"
    START = "EVENT_START"
    END = "EVENT_END"


@dataclass(frozen=True, slots=True)
class User:
    """Who holds a reservation. Only `id` is certain: the platform leaves out what it could not look up."""

    id: str
    name: str | None = None
    email: str | None = None
    ssh_public_key: str | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """What was booked. `type` is the name of the resource's type, which selects a template."""

    id: str
    name: str | None = None
    type: str | None = None
    specs: str | None = None
    location: str | None = None
    site_id: str | None = None
    site_name: str | None = None


@dataclass(frozen=True, slots=True)
class ReservationEvent:
    """Something happened to one reservation.

    `reservation_id` is the platform's `eventId`. `occurred_at` is when the platform sent the event; a duplicate
    has a fresh one. `updated_at` is the version of the booking (UTC, microseconds); only enveloped events carry
    it. `start` and `end` bound the half-open interval [start, end). `parameters` are the labels people typed,
    unchanged, to their values.
    """

    kind: EventKind
    reservation_id: str
    occurred_at: datetime
    start: datetime
    end: datetime
    user: User
    resource: Resource
    title: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    updated_at: datetime | None = None
    webhook_id: str | None = None


@dataclass(frozen=True, slots=True)
class ResourceEvent:
    """A bookable resource itself was created, updated or deleted (`kind` is the platform's `RESOURCE_*`)."""

    kind: str
    occurred_at: datetime
    resource: Resource
    webhook_id: str | None = None

    @property
    def deleted(self) -> bool:
        return self.kind == "RESOURCE_DELETED"


@dataclass(frozen=True, slots=True)
class Ping:
    """The platform's test event (`ALL`): proof that the way is open, nothing to do."""

    occurred_at: datetime
    webhook_id: str | None = None


InboundEvent = ReservationEvent | ResourceEvent | Ping
