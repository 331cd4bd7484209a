"""From a record's bytes to events, or to one error that says what is wrong with them and never anything else."""

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from schemas.events import InboundEvent
from schemas.platform import (
    BatchMessage,
    FlatMessage,
    Message,
    PingMessage,
    ReservationMessage,
    ResourceMessage,
)

MAX_BYTES = 262_144
MESSAGE_LIMIT = 400

_SHAPES: dict[str, type[Message]] = {
    "EVENT_START": FlatMessage,
    "EVENT_END": FlatMessage,
    "EVENT_CREATED": ReservationMessage,
    "EVENT_UPDATED": ReservationMessage,
    "EVENT_DELETED": ReservationMessage,
    "ALL": PingMessage,
}
_RESOURCE_PREFIX = "RESOURCE_"
_LOOKS_LIKE_A_TYPE = re.compile(r"[A-Z][A-Z_]{0,39}")

_REASONS = {
    "missing": "is missing",
    "string_type": "must be text",
    "string_too_long": "has more than {max_length} characters",
    "string_pattern_mismatch": "has control characters, or others that are not allowed there",
    "model_type": "must be an object",
    "list_type": "must be a list",
    "too_short": "is empty",
    "too_long": "has more than {max_length} entries",
}


class DecodeError(ValueError):
    """A record that cannot be read. `code` is for machines, one of: `too_large`, `empty`, `not_json`,
    `not_an_object`, `unknown_event_type`, `invalid_field`. `message` is for people: the field, what is wrong with it
    and what to do, in at most 400 characters and without the record's content.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message if len(message) <= MESSAGE_LIMIT else f"{message[: MESSAGE_LIMIT - 1]}…"
        super().__init__(f"{code}: {self.message}")


def decode(raw: bytes | None, *, max_bytes: int = MAX_BYTES) -> tuple[InboundEvent, ...]:
    """The events in one record's value, in order: one, or as many as a batch holds.

    Raises `DecodeError`, and nothing else whatever the bytes are, when any part of the record cannot be read:
    a batch is read whole or not at all. More than `max_bytes` bytes are refused before they are looked at.
    """
    document = _document(raw, max_bytes)
    shape = _shape(document)
    try:
        return tuple(shape.model_validate(document).events())
    except ValidationError as error:
        refusal = _refusal(error)
    # Raised out here because an error in its chain would keep the record's content, and bring it into logs.
    raise refusal


def _document(raw: bytes | None, max_bytes: int) -> dict[str, Any]:
    if raw is None:
        raise DecodeError("empty", "The record has no value; publish the event as JSON, tombstones mean nothing here.")
    if len(raw) > max_bytes:
        raise DecodeError(
            "too_large", f"The record has {len(raw)} bytes, more than the {max_bytes} allowed; send fewer at a time."
        )
    if not raw or raw.isspace():
        raise DecodeError("empty", "The record's value is empty; publish the event as JSON.")
    try:
        document = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise DecodeError("not_json", f"The record is not JSON ({error}); publish the event as UTF-8 JSON.") from error
    if not isinstance(document, dict):
        raise DecodeError("not_an_object", "The record is JSON but not an object; publish one event as one object.")
    return document


def _shape(document: dict[str, Any]) -> type[Message]:
    kind = document.get("eventType")
    if not isinstance(kind, str):
        reason = "must be text" if "eventType" in document else "is missing"
        raise DecodeError("invalid_field", f"`eventType` {reason}; publish what the platform sends, unchanged.")
    shape = ResourceMessage if kind.startswith(_RESOURCE_PREFIX) else _SHAPES.get(kind)
    if shape is None:
        name = f" {kind}" if _LOOKS_LIKE_A_TYPE.fullmatch(kind) else ""
        known = f"{', '.join(_SHAPES)} or {_RESOURCE_PREFIX}*"
        raise DecodeError("unknown_event_type", f"`eventType`{name} is none of {known}; publish only those here.")
    return BatchMessage if shape is FlatMessage and document.get("events") is not None else shape


def _refusal(error: ValidationError) -> DecodeError:
    problems = error.errors(include_url=False, include_input=False)
    first = problems[0]
    others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return DecodeError(
        "invalid_field",
        f"`{_path(first['loc'])}` {_reason(first)}{others}; correct it where the event is published, then replay it.",
    )


def _reason(problem: ErrorDetails) -> str:
    known = _REASONS.get(problem["type"])
    return known.format_map(problem.get("ctx", {})) if known else problem["msg"]


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
