"""Payloads exactly as the platform builds them, from one description of a booking."""

import itertools
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

_clock = itertools.count()


@dataclass(frozen=True)
class Booked:
    """The resource of a booking; its type selects the template."""

    id: int = 12
    name: str = "GPU Server 1"
    type: str = "Shell"


@dataclass(frozen=True)
class Booking:
    """A reservation as the platform knows it. `version` is its `updatedAt`, in seconds after the first."""

    id: str
    user: str = "5f0c8a52"
    resource: Booked = Booked()
    start: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=5))
    end: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(hours=2))
    parameters: str = "{}"
    version: int = 0

    def but(self, **changes: Any) -> Self:
        return replace(self, **changes)

    @property
    def _number_or_text(self) -> int | str:
        # Ids that are numbers travel as either: both are the same reservation.
        return int(self.id) if self.id.isdigit() and next(_clock) % 2 else self.id

    def start_event(self) -> bytes:
        return self._flat("EVENT_START")

    def end_event(self) -> bytes:
        return self._flat("EVENT_END")

    def created(self) -> bytes:
        return self._envelope("EVENT_CREATED")

    def updated(self) -> bytes:
        return self._envelope("EVENT_UPDATED")

    def deleted(self) -> bytes:
        return self._envelope("EVENT_DELETED")

    def _flat(self, kind: str) -> bytes:
        return encoded(kind, webhookId=7, userId=self.user, username=f"user-{self.user}", **self.entry())

    def entry(self) -> dict[str, Any]:
        """The booking's own fields, as in flat payloads and in each entry of a batch."""
        return {
            "eventId": self._number_or_text,
            "eventTitle": "Lab – “web”",
            "eventStart": moment(self.start),
            "eventEnd": moment(self.end),
            "customParameters": self.parameters,
            "resourceId": self.resource.id,
            "resourceName": self.resource.name,
            "resourceType": self.resource.type,
            "siteId": "0a8a1b1e",
        }

    def _envelope(self, kind: str) -> bytes:
        first = datetime(2026, 2, 20, 10, tzinfo=UTC)
        data = {
            "createdAt": moment(first),
            "updatedAt": moment(first + timedelta(seconds=self.version)),
            "id": self._number_or_text,
            "title": "Lab",
            "start": moment(self.start),
            "end": moment(self.end),
            "keycloakId": self.user,
            "resource": resource_data(self.resource),
        }
        if kind != "EVENT_DELETED":
            data["customParameters"] = self.parameters
        return encoded(kind, webhookId="7", data=data)


def batch(kind: str, user: str, bookings: list[Booking]) -> bytes:
    """One record about several bookings of one user."""
    entries = [booking.entry() for booking in bookings]
    return encoded(kind, webhookId="7", eventCount=len(entries), userId=user, username=f"user-{user}", events=entries)


def resource_event(kind: str, resource: Booked) -> bytes:
    return encoded(kind, webhookId="7", data=resource_data(resource))


def ping() -> bytes:
    return encoded("ALL", webhookId="7", data={"message": "This is a test webhook event"})


def resource_data(resource: Booked) -> dict[str, Any]:
    return {"id": resource.id, "name": resource.name, "status": "ACTIVE", "type": {"id": 5, "name": resource.type}}


def encoded(kind: str, **fields: Any) -> bytes:
    """A payload of this kind. Each is sent at another moment, duplicates too, as the platform does."""
    sent = datetime.now(UTC) + timedelta(microseconds=next(_clock))
    return json.dumps({"eventType": kind, "timestamp": moment(sent), **fields}).encode()


def moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
