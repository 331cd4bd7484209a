"""Payloads to change one thing of, and strategies for payloads that nobody thought of."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from schemas.events import InboundEvent, ReservationEvent
from schemas.examples import sample_document
from schemas.inbound import DecodeError, decode


def flat(**changes: Any) -> dict[str, Any]:
    """The sample START with some fields changed; `...` takes a field away."""
    return changed(sample_document("event_start"), changes)


def changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (document | changes).items() if value is not ...}


def read(document: Any) -> tuple[InboundEvent, ...]:
    return decode(json.dumps(document).encode())


def read_one(document: Any) -> ReservationEvent:
    (event,) = read(document)
    assert isinstance(event, ReservationEvent)
    return event


def refusal(raw: bytes | None, **options: int) -> DecodeError:
    """The error that decoding ends in."""
    try:
        events = decode(raw, **options)
    except DecodeError as error:
        return error
    raise AssertionError(f"was read, as {len(events)} events")


def refusal_of(document: Any) -> DecodeError:
    return refusal(json.dumps(document).encode())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)

printable = st.characters(exclude_categories=["C", "Z"])
identifiers = st.text(printable, min_size=1, max_size=128).filter(lambda text: text.isprintable())
names = st.none() | st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40).filter(
    lambda text: not text.isspace()
)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1971, 1, 1), datetime(2990, 1, 1), timezones=st.just(UTC))
