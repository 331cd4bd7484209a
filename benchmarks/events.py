"""Reservation events for the measurements of the whole service, and what is remembered of their reservations."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from consumer.reservations import decide
from schemas.events import ReservationEvent
from schemas.examples import sample_document
from schemas.inbound import decode
from schemas.state import ReservationState

_NOW = datetime(2026, 6, 1, tzinfo=UTC)


def over_and_done(reservations: int) -> Iterator[tuple[bytes, bytes]]:
    """A repeated START and a repeated END of each reservation: all of them have ended long ago."""
    start, end = sample_document("event_start"), sample_document("event_end")
    for number in range(reservations):
        for body in (start, end):
            yield _keyed(number, body)


def tombstones(reservations: int) -> Iterator[tuple[bytes, bytes]]:
    """What the service remembers of the reservations of `over_and_done`."""
    end = sample_document("event_end")
    for number in range(reservations):
        key, value = _keyed(number, end)
        yield key, _state_after(value).to_bytes()


def to_come(reservations: int, *, size: int) -> Iterator[tuple[bytes, bytes]]:
    """A START of `size` bytes for each reservation."""
    body = {
        "eventType": "EVENT_START",
        "timestamp": "2026-03-02T07:55:07Z",
        "userId": 17,
        "eventStart": "2026-03-02T08:00:00Z",
        "eventEnd": "2099-03-02T10:00:00Z",
        "resourceId": 12,
        "resourceName": "GPU Server 1",
        "eventTitle": "",
    }
    for number in range(reservations):
        key, value = _keyed(number, body)
        title = "x" * (size - len(value))
        yield _keyed(number, body | {"eventTitle": title}) if title else (key, value)


def _keyed(number: int, body: dict[str, Any]) -> tuple[bytes, bytes]:
    reservation = f"{number:07}"
    value = json.dumps(body | {"eventId": reservation}, separators=(",", ":")).encode()
    return reservation.encode(), value


def _state_after(end: bytes) -> ReservationState:
    (event,) = decode(end)
    assert isinstance(event, ReservationEvent)
    return decide(None, event, _NOW).state
