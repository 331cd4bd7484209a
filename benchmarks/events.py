"""Reservation events for the measurements of the whole service, and what is remembered of their reservations."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from consumer.reservations import decide
from schemas.events import ReservationEvent
from schemas.examples import sample_document
from schemas.inbound import decode
from schemas.outbound import Access, AccessPort
from schemas.state import Phase, ReservationState
from schemas.state_index import index_bytes

_NOW = datetime(2026, 6, 1, tzinfo=UTC)
_PRIME = 7_368_787
_START = {
    "eventType": "EVENT_START",
    "timestamp": "2026-03-02T07:55:07Z",
    "userId": 17,
    "eventStart": "2026-03-02T08:00:00Z",
    "eventEnd": "2099-03-02T10:00:00Z",
    "resourceId": 12,
    "resourceName": "GPU Server 1",
    "eventTitle": "",
}


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
    for number, (key, value) in enumerate(starts(range(reservations))):
        title = "x" * (size - len(value))
        yield _keyed(number, _START | {"eventTitle": title}) if title else (key, value)


def starts(numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
    """A START of each reservation: they last."""
    return (_keyed(number, _START) for number in numbers)


def ends(numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
    """An END of each reservation."""
    return (_keyed(number, sample_document("event_end")) for number in numbers)


def wanted(events: Iterable[tuple[bytes, bytes]]) -> Iterator[ReservationState]:
    """What is remembered of reservations after their first event."""
    return (_state_after(value) for _, value in events)


def remembered(reservations: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Key, value and index of the states of so many reservations: seven of ten ended, two run, one is to come."""
    ended = _state_after(_keyed(0, sample_document("event_end"))[1])
    access = Access(host="gpu.example.org", ports=(AccessPort(port=22, host_port=31022),), ssh="ssh user@gpu -p 31022")
    made = {"runtime": "docker", "template": "linux", "environment": "r-mario-rossi-gpu-server-1", "access": access}
    running = ended.model_copy(update=made | {"phase": Phase.ACTIVE, "image": "nginx:1.27", "start_seen": True})
    to_come = ended.model_copy(update={"phase": Phase.PENDING, "booking_version": ended.changed_at})
    kinds = [(state.to_bytes(), index_bytes(state)) for state in (*[ended] * 7, *[running] * 2, to_come)]
    # By hand, since encoding a million states takes longer than what is measured.
    ours = b'"reservationId":"0000000"'
    assert all(value.count(ours) == 1 for value, _ in kinds)
    for number in range(reservations):
        value, index = kinds[number % len(kinds)]
        key = b"%07d" % number
        yield key, value.replace(ours, b'"reservationId":"%b"' % key), index


def running(reservations: int, begin: datetime, spread: timedelta) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The same of reservations that all run; their ends are spread evenly, and in no order, after `begin`."""
    _, value, index = next(each for each in remembered(10) if b"ACTIVE" in each[2])
    version, phase, start, _, *rest = json.loads(index)
    for number in range(reservations):
        end = begin + spread * (number * _PRIME % reservations / reservations)
        key = b"%07d" % number
        yield key, value, json.dumps([version, phase, start, end.timestamp(), *rest]).encode()


def _keyed(number: int, body: dict[str, Any]) -> tuple[bytes, bytes]:
    reservation = f"{number:07}"
    value = json.dumps(body | {"eventId": reservation}, separators=(",", ":")).encode()
    return reservation.encode(), value


def _state_after(value: bytes) -> ReservationState:
    (event,) = decode(value)
    assert isinstance(event, ReservationEvent)
    return decide(None, event, _NOW).state
