"""The kinds of field the platform's payloads are made of, each with its bounds and its JSON Schema."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from schemas.parameters import PARAMETER_SCHEMA, read_parameters
from schemas.timestamps import parse_timestamp

ID_LIMIT = 128
TEXT_LIMIT = 1_000
LONG_TEXT_LIMIT = 16_384

_ID_CEILING = 10**ID_LIMIT
_NO_CONTROLS = r"^[^\x00-\x08\x0B\x0C\x0E-\x1F\x7F]*$"
"""Tabs and line breaks are text; a NUL is not, no runtime can hold one in an environment variable."""


def _invalid(reason: str) -> PydanticCustomError:
    return PydanticCustomError("moorage", "{reason}", {"reason": reason})


def _identifier(value: Any) -> str:
    # By type, not isinstance: True is an int, and no id.
    if type(value) is int and 0 <= value < _ID_CEILING:
        return str(value)
    if type(value) is not str:
        raise _invalid("must be text or a whole number that is not negative")
    if not 1 <= len(value) <= ID_LIMIT:
        raise _invalid(f"must have 1 to {ID_LIMIT} characters")
    if not value.isprintable() or value != value.strip():
        raise _invalid("must have printable characters only, and no space at either end")
    return value


def _optional_identifier(value: Any) -> str | None:
    return None if value is None or value == "" else _identifier(value)


def _moment(value: Any) -> datetime:
    if type(value) is not str:
        raise _invalid("must be a date and time as text")
    try:
        return parse_timestamp(value)
    except ValueError as error:
        raise _invalid(str(error)) from error


def _parameters(value: Any) -> dict[str, str]:
    try:
        return read_parameters(value)
    except ValueError as error:
        raise _invalid(str(error)) from error


def _known(text: str | None) -> str | None:
    return text if text and not text.isspace() else None


_ID_SCHEMA: dict[str, Any] = {
    "description": "Text or a whole number, which are the same id when they read the same.",
    "anyOf": [{"type": "string", "minLength": 1, "maxLength": ID_LIMIT}, {"type": "integer", "minimum": 0}],
}
_OPTIONAL_ID_SCHEMA: dict[str, Any] = {
    "description": "As every id; empty text and null mean none.",
    "anyOf": [{"type": "string", "maxLength": ID_LIMIT}, {"type": "integer", "minimum": 0}, {"type": "null"}],
}

Identifier = Annotated[str, PlainValidator(_identifier), WithJsonSchema(_ID_SCHEMA)]
"""An id: a number or text on the wire, always text for us; printable, at most 128 characters."""

OptionalIdentifier = Annotated[str | None, PlainValidator(_optional_identifier), WithJsonSchema(_OPTIONAL_ID_SCHEMA)]
"""An id that may be absent; empty text means the same as none."""

Moment = Annotated[
    datetime,
    PlainValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "RFC 3339, 0 to 9 fraction digits."}),
]
"""A moment in UTC, to the microsecond."""

Text = Annotated[
    Annotated[str, StringConstraints(max_length=TEXT_LIMIT, pattern=_NO_CONTROLS)] | None, AfterValidator(_known)
]
"""A name or a title, at most 1,000 characters; blank text means the same as none."""

LongText = Annotated[
    Annotated[str, StringConstraints(max_length=LONG_TEXT_LIMIT, pattern=_NO_CONTROLS)] | None, AfterValidator(_known)
]
"""A description or a public key, at most 16,384 characters; blank text means the same as none."""

Parameters = Annotated[dict[str, str], PlainValidator(_parameters), WithJsonSchema(PARAMETER_SCHEMA)]
"""The labels people typed, to their values."""
