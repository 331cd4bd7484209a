"""The script of the demonstration: what the platform publishes in one morning of a teaching lab."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

_STUDENTS = ("mario_rossi", "giulia_bianchi", "luca_ferrari", "sofia_romano", "anna_greco", "marco_conti")
_COURSE = "Computer networks, lab 3"
SEATS = 34
_LATE, _EARLY_END, _EXTENDED, _DELETED, _FORGOTTEN, _CANCELLED = 101, 102, 103, 104, 105, 106
_FORGOTTEN_AFTER = timedelta(seconds=6)
_BATCH = (201, 202)
_FORBIDDEN_IMAGE, _TOO_MUCH = 301, 302


@dataclass(frozen=True, slots=True)
class Sent:
    """One record to publish, and the seconds until the next; with none they go out in the same breath.

    `note` is what the audience should know of it.
    """

    value: bytes
    key: str | None
    note: str | None = None
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What must have come of the morning: reservations by their outcome, and dead letters."""

    provisioned: int = SEATS + len(_BATCH) + 4
    released: int = SEATS + len(_BATCH) + 4
    interrupted: int = 1
    expired: int = 1
    refused: int = 2
    skipped: int = 2
    updated: int = 1
    dead_lettered: int = 1


def morning(now: datetime) -> Iterator[Sent]:
    """The first half: reservations start, and whatever else a platform sends on a busy morning."""
    yield _sent({"eventType": "ALL", "timestamp": _text(now), "webhookId": "7", "data": {}}, None, "a ping")
    for seat in range(1, SEATS + 1):
        yield _start(seat, now, pause=0.04)
    for seat in (3, 14, 15):
        yield _start(seat, now, note=f"reservation {seat} again, a duplicate with a fresh timestamp")
    yield _sent(_batch(now), None, "an older platform's batch: one record, two reservations")
    yield _sent(
        _flat("EVENT_START", _FORBIDDEN_IMAGE, now, {"image": "docker.io/darkside/miner:latest"}),
        str(_FORBIDDEN_IMAGE),
        "an image that is not allowed",
    )
    yield _sent(
        _flat("EVENT_START", _TOO_MUCH, now, {"Memory limit": "640Gi"}), str(_TOO_MUCH), "more memory than is allowed"
    )
    yield Sent(b'{"eventType":"EVENT_START","eventId":"1843","eve', "1843", "a payload cut off in the middle")
    yield _sent(_flat("EVENT_END", _EARLY_END, now), str(_EARLY_END), "an END that overtook its START")
    yield _start(_EARLY_END, now, note="and its START, too late: nothing may start")
    for eventful in (_LATE, _EXTENDED, _DELETED):
        yield _start(eventful, now)


def changes(now: datetime) -> Iterator[Sent]:
    """What happens to reservations that run, and to two new ones."""
    ending = _flat("EVENT_START", _FORGOTTEN, now) | {"eventEnd": _text(now + _FORGOTTEN_AFTER)}
    yield _sent(
        ending, str(_FORGOTTEN), f"reservation {_FORGOTTEN}, over in {_FORGOTTEN_AFTER.seconds} s: its END gets lost"
    )
    yield _start(_CANCELLED, now)
    yield _sent(
        _flat("EVENT_END", _CANCELLED, now),
        str(_CANCELLED),
        f"reservation {_CANCELLED} starts, and ends while it is being started",
    )
    yield _sent(_flat("EVENT_END", _LATE, now), str(_LATE), f"reservation {_LATE} ends early")
    yield _start(_LATE, now, note="and its START once more: nothing may start")
    yield _sent(
        _enveloped("EVENT_UPDATED", _EXTENDED, now, end=now + timedelta(hours=4)),
        str(_EXTENDED),
        f"reservation {_EXTENDED} is extended by two hours",
    )
    yield _sent(
        _enveloped("EVENT_DELETED", _DELETED, now),
        str(_DELETED),
        f"reservation {_DELETED} is deleted; the platform does not say whose it was",
    )


def noon(now: datetime) -> Iterator[Sent]:
    """The second half: everything ends."""
    for reservation in (*range(1, SEATS + 1), *_BATCH, _EXTENDED):
        yield _sent(_flat("EVENT_END", reservation, now), str(reservation), pause=0.01)


def _start(reservation: int, now: datetime, *, note: str | None = None, pause: float = 0.0) -> Sent:
    return _sent(_flat("EVENT_START", reservation, now), str(reservation), note, pause)


def _sent(body: dict[str, Any], key: str | None, note: str | None = None, pause: float = 0.0) -> Sent:
    return Sent(json.dumps(body).encode(), key, note, pause)


def _flat(kind: str, reservation: int, now: datetime, parameters: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": _text(now),
        "webhookId": 7,
        **_person(reservation),
        **_booking(reservation, now, parameters),
    }


def _batch(now: datetime) -> dict[str, Any]:
    events = [_booking(reservation, now) for reservation in _BATCH]
    return {
        "eventType": "EVENT_START",
        "timestamp": _text(now),
        "webhookId": "7",
        "eventCount": len(events),
        **_person(_BATCH[0]),
        "events": events,
        "activeResources": [],
    }


def _enveloped(kind: str, reservation: int, now: datetime, end: datetime | None = None) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": _text(now),
        "webhookId": "7",
        "data": {
            "id": reservation,
            "createdAt": _text(now - timedelta(days=3)),
            "updatedAt": _text(now),
            "title": _COURSE,
            "start": _text(_opening(now)),
            "end": _text(end or _opening(now) + timedelta(hours=2)),
            "keycloakId": _person(reservation)["userId"],
            "resource": {"id": 1000 + reservation, "name": f"Seat {reservation}", "type": {"name": "Linux container"}},
        },
    }


def _person(reservation: int) -> dict[str, str]:
    name = _STUDENTS[reservation % len(_STUDENTS)]
    return {"userId": f"user-{name}", "username": name, "email": f"{name}@example.org"}


def _booking(reservation: int, now: datetime, parameters: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "eventId": str(reservation),
        "eventTitle": _COURSE,
        "eventStart": _text(_opening(now)),
        "eventEnd": _text(_opening(now) + timedelta(hours=2)),
        "customParameters": json.dumps(parameters or {"environment": f"COURSE=net-lab,SEAT={reservation}"}),
        "resourceId": 1000 + reservation,
        "resourceName": f"Seat {reservation}",
        "resourceType": "Linux container",
    }


def _opening(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
