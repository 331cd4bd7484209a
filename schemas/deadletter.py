"""A record that could not be handled, as it lies on the dead-letter topic: untouched, with the reason in headers.

Each fact is there twice: under our names as text, for people and our tools, and under Spring Kafka's names in
Spring Kafka's encodings (numbers as big-endian integers), for the tools that know those. Both belong to us alone:
they are taken off before a record is replayed, and before it is dead-lettered once more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from schemas.timestamps import format_timestamp, parse_timestamp

ERROR_MESSAGE_LIMIT = 500

OURS = "moorage-dlt-"
SPRINGS = "kafka_dlt-"

Header = tuple[str, bytes | None]
"""A Kafka header; its value may be null."""

_TIMESTAMP_TYPES = {0: "CreateTime", 1: "LogAppendTime"}
_NO_TIMESTAMP = "NoTimestampType"
_FQCN_PREFIX = "io.moorage."
_DECIMAL_LIMIT = 20

_Value = TypeVar("_Value", bound=bytes | None)
_Found = Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record, where it came from and why it could not be handled.

    `topic`, `partition`, `offset` and `timestamp_ms` (Unix milliseconds, -1 for none) are the original record's, as
    are `key`, `value` and `headers`, to the byte. `instance` is the Moorage that gave up, at `failed_at` (None when
    that is not known). `timestamp_type` is Kafka's id: 0 when the producer set the time, 1 when the broker did.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    error_code: str
    error_message: str
    instance: str
    failed_at: datetime | None = None
    timestamp_type: int = 0


def dead_letter_headers(
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    headers: Iterable[tuple[str, _Value]],
    error_code: str,
    error_message: str,
    instance: str,
    failed_at: datetime,
    timestamp_type: int = 0,
) -> list[tuple[str, _Value | bytes]]:
    """The headers of a dead letter: the record's own `headers`, then ours and Spring's; `DeadLetter` has the meanings.

    What an earlier dead-lettering left among `headers` is replaced. The error message is cut to 500 characters.
    Raises `ValueError` for a naive `failed_at` and `OverflowError` for numbers that Kafka cannot have.
    """
    message = _cut(error_message)
    kind = _NO_TIMESTAMP if timestamp_ms < 0 else _TIMESTAMP_TYPES.get(timestamp_type, _NO_TIMESTAMP)
    ours = {
        "original-topic": topic,
        "original-partition": str(partition),
        "original-offset": str(offset),
        "original-timestamp": str(timestamp_ms),
        "original-timestamp-type": kind,
        "error-code": error_code,
        "error-message": message,
        "instance": instance,
        "failed-at": format_timestamp(failed_at),
    }
    springs = {
        "original-topic": _utf8(topic),
        "original-partition": partition.to_bytes(4, "big", signed=True),
        "original-offset": offset.to_bytes(8, "big", signed=True),
        "original-timestamp": timestamp_ms.to_bytes(8, "big", signed=True),
        "original-timestamp-type": _utf8(kind),
        "exception-fqcn": _utf8(_FQCN_PREFIX + error_code),
        "exception-message": _utf8(message),
    }
    return [
        *original_of(headers),
        *((OURS + name, _utf8(text)) for name, text in ours.items()),
        *((SPRINGS + name, value) for name, value in springs.items()),
    ]


def original_of(headers: Iterable[tuple[str, _Value]]) -> tuple[tuple[str, _Value], ...]:
    """`headers` without ours and Spring's: what the record had before it was dead-lettered, in order."""
    return tuple(header for header in headers if not header[0].startswith((OURS, SPRINGS)))


def parse_dead_letter(key: bytes | None, value: bytes | None, headers: Iterable[Header]) -> DeadLetter:
    """The dead letter that a record of the dead-letter topic is; one that Spring Kafka wrote is read as well.

    Raises `ValueError` when the headers do not say which topic, partition and offset it came from.
    """
    all_headers = tuple(headers)
    found = dict(all_headers)
    return DeadLetter(
        topic=_topic(found),
        partition=_number(found, "original-partition", size=4),
        offset=_number(found, "original-offset", size=8),
        timestamp_ms=_number(found, "original-timestamp", size=8, default=-1),
        key=key,
        value=value,
        headers=original_of(all_headers),
        error_code=_text(found, OURS + "error-code", SPRINGS + "exception-fqcn", default="unknown"),
        error_message=_text(found, OURS + "error-message", SPRINGS + "exception-message"),
        instance=_text(found, OURS + "instance"),
        failed_at=_failed_at(found),
        timestamp_type=_timestamp_type_id(found),
    )


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _cut(text: str) -> str:
    return text if len(text) <= ERROR_MESSAGE_LIMIT else f"{text[: ERROR_MESSAGE_LIMIT - 1]}…"


def _timestamp_type_id(found: _Found) -> int:
    name = _text(found, OURS + "original-timestamp-type", SPRINGS + "original-timestamp-type")
    return 1 if name == _TIMESTAMP_TYPES[1] else 0


def _text(found: _Found, *names: str, default: str = "") -> str:
    values = (found.get(name) for name in names)
    return next((value.decode("utf-8", "replace") for value in values if value is not None), default)


def _topic(found: _Found) -> str:
    topic = _text(found, OURS + "original-topic", SPRINGS + "original-topic")
    if not topic:
        raise ValueError(f"This record is not a dead letter: it has no header {OURS}original-topic.")
    return topic


def _number(found: _Found, name: str, *, size: int, default: int | None = None) -> int:
    ours, springs = found.get(OURS + name), found.get(SPRINGS + name)
    if ours is None and springs is None and default is not None:
        return default
    number = _decimal(ours, size) if ours is not None else _big_endian(springs, size)
    if number is None:
        raise ValueError(f"This dead letter cannot be read: its header {OURS}{name} is missing or broken.")
    return number


def _decimal(value: bytes, size: int) -> int | None:
    if len(value) > _DECIMAL_LIMIT or not value.removeprefix(b"-").isdigit():
        return None
    number = int(value)
    bound = 1 << (8 * size - 1)
    return number if -bound <= number < bound else None


def _big_endian(value: bytes | None, size: int) -> int | None:
    return int.from_bytes(value, "big", signed=True) if value is not None and len(value) == size else None


def _failed_at(found: _Found) -> datetime | None:
    try:
        return parse_timestamp(_text(found, OURS + "failed-at"))
    except ValueError:
        return None
