"""Dead letters as the commands name, find and summarise them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import typer

from consumer.cli.text import exact, moment_of
from consumer.transport.deadletters import StoredLetter
from schemas.events import ReservationEvent
from schemas.inbound import DecodeError, decode

_PLACE = re.compile(r"([0-9]{1,10}):([0-9]{1,19})")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a dead letter lies on its topic, `PARTITION:OFFSET`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


def place_of(text: str) -> Place:
    match = _PLACE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not PARTITION:OFFSET, such as 3:42; `moorage dlq list` shows them.")
    return Place(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Summary:
    """What there is to say about a dead letter without its payload. `origin` is None for what is no dead letter."""

    place: Place
    when: datetime | None
    origin: tuple[str, int, int] | None
    code: str
    message: str
    key: bytes | None
    size: int
    instance: str | None
    replayed_from: str | None
    replayable: bool

    @property
    def age_order(self) -> tuple[datetime, Place]:
        return self.when or _LONG_AGO, self.place

    @property
    def came_from(self) -> str | None:
        return "/".join(map(str, self.origin)) if self.origin else None

    def as_json(self) -> dict[str, Any]:
        names = ("topic", "partition", "offset")
        return {
            "partition": self.place.partition,
            "offset": self.place.offset,
            "failedAt": self.when.isoformat() if self.when else None,
            "origin": dict(zip(names, self.origin, strict=True)) if self.origin else None,
            "code": self.code,
            "message": self.message,
            "key": exact(self.key),
            "bytes": self.size,
            "instance": self.instance,
            "replayedFrom": self.replayed_from,
            "replayable": self.replayable,
        }


def summary_of(stored: StoredLetter) -> Summary:
    message, letter = stored.message, stored.letter
    written = moment_of(message.timestamp_ms)
    return Summary(
        place=Place(message.partition, message.offset),
        when=letter.failed_at or written if letter else written,
        origin=(letter.topic, letter.partition, letter.offset) if letter else None,
        code=letter.error_code if letter else "not_a_dead_letter",
        message=letter.error_message if letter else stored.problem or "",
        key=message.key,
        size=len(message.value or b""),
        instance=letter.instance or None if letter else None,
        replayed_from=stored.replayed_from,
        replayable=stored.problem is None,
    )


def concerns(stored: StoredLetter, reservation: str | None) -> bool:
    """Whether a dead letter is about this reservation, by its key or, where it can be read, by what it says."""
    if reservation is None or stored.message.key == reservation.encode():
        return True
    try:
        events = decode(stored.message.value)
    except DecodeError:
        return False
    return any(isinstance(event, ReservationEvent) and event.reservation_id == reservation for event in events)
