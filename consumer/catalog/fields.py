"""The kinds of field that a template file is made of: read from text, wrong ones named with their remedy."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from consumer.catalog.environment import Port
from consumer.catalog.errors import Refused
from consumer.catalog.ports import PortRange, parse_port, parse_ports, parse_range, ports_from
from consumer.catalog.quantities import parse_bytes, parse_cpu
from consumer.catalog.wording import did_you_mean, quoted

UNLIMITED: Literal["unlimited"] = "unlimited"
Read = TypeVar("Read")
_OBJECT = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
Amount = int | Literal["unlimited"] | None
"""Millicores or bytes; None where the operator said nothing."""


def problem(message: str, *at: str | int) -> PydanticCustomError:
    """The error to raise in a validator. `at` leads from the field under validation to the one that is wrong."""
    return PydanticCustomError("catalog", "{message}", {"message": message, "at": at})


class Section(BaseModel):
    """A part of the file: frozen; unknown and empty keys are errors, with a guess at what was meant."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise problem(f"is not a set of keys; it can have: {', '.join(cls.model_fields)}")
        for key, item in value.items():
            if key not in cls.model_fields:
                raise problem(f"is not known{did_you_mean(str(key), cls.model_fields)}", str(key)[:64])
            if item is None:
                raise problem("has no value: give it one, or leave the key out", str(key))
        return value


def like(pattern: re.Pattern[str], otherwise: str) -> AfterValidator:
    """For a text of this form; of another one it is said what `otherwise` says."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise problem(f"{quoted(value)} {otherwise}")
        return value

    return AfterValidator(check)


def one_or_more(value: Any) -> tuple[str, ...]:
    """A text or a list of them. An empty list is an error: it would match nothing."""
    items = text_list(value) if isinstance(value, (list, tuple)) else (text(value),)
    if not items:
        raise problem("is an empty list, which matches nothing: leave the key out to match everything")
    return items


def text_list(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise problem(f"is not a list: write [{quoted(str(value))}]")
    return tuple(text(item, index) for index, item in enumerate(value))


def text(value: Any, *at: str | int) -> str:
    if not isinstance(value, str):
        raise problem("is not a text", *at)
    return value


def cpu(value: Any) -> Amount:
    return _amount(value, lambda written: parse_cpu(written, "CPU"))


def size(value: Any) -> Amount:
    return _amount(value, lambda written: parse_bytes(written, "Size"))


def stated(read: Callable[[Any], Amount]) -> Callable[[Any], int | None]:
    """`read`, for what must be a number where it is said."""

    def number(value: Any) -> int | None:
        amount = read(value)
        if amount == UNLIMITED:
            raise problem("cannot be unlimited: leave the key out")
        return amount

    return number


def port_list(value: Any) -> tuple[Port, ...]:
    if isinstance(value, str):
        return read(parse_ports, value)
    if not isinstance(value, (list, tuple)):
        raise problem('is not a list of ports: write ["80", "53/udp"]')
    return read(ports_from, value)


def port_range(value: Any) -> PortRange:
    return read(parse_range, text(value))


def port_or_none(value: Any) -> int | Literal["none"]:
    """A port number, or `none` to say that there is none and nothing is to be guessed."""
    if text(value).strip().lower() == "none":
        return "none"
    return read(parse_port, value)


def object_name(value: str) -> str:
    """The name of an object of a Kubernetes cluster."""
    if not _OBJECT.fullmatch(value):
        raise problem(
            f"{quoted(value)} is not the name of an object of a cluster: use lower-case letters, digits, '-' and '.'"
        )
    return value


def texts(value: Any) -> Mapping[str, str]:
    """Keys and values as written; an empty value is the empty text."""
    if not isinstance(value, dict):
        raise problem("is not a set of names and values")
    return {name: "" if item is None else text(item, name) for name, item in value.items()}


def read(reader: Callable[[Any], Read], value: Any, *at: str | int) -> Read:
    """What `reader` makes of `value`; its refusal, worded for users, becomes a problem of the file."""
    try:
        return reader(value)
    except Refused as refusal:
        raise problem(refusal.message, *at) from None


def _amount(value: Any, reader: Callable[[str], int]) -> Amount:
    if text(value).strip().lower() == UNLIMITED:
        return UNLIMITED
    return read(reader, value)
