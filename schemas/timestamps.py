"""RFC 3339 moments, as the platform writes them: 0 to 9 fraction digits, `Z` or an offset."""

import re
from datetime import UTC, datetime

EARLIEST_YEAR = 1970
LATEST_YEAR = 2999
"""Bookings "for ever" stay well below the last moment that Python can add a grace period to."""

_RFC3339 = re.compile(
    r"([0-9]{4})-[0-9]{2}-[0-9]{2}[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


def parse_timestamp(text: str) -> datetime:
    """The moment `text` names, in UTC. Digits beyond microseconds are cut off, never rounded up.

    Raises `ValueError` when it is no RFC 3339 date and time with an offset, no day of the calendar, or a year
    outside 1970 to 2999. Leap seconds (`:60`) are refused: Python has none. The message never repeats the text.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("is not an RFC 3339 date and time with an offset, such as 2026-03-02T08:00:00Z")
    if not EARLIEST_YEAR <= int(match[1]) <= LATEST_YEAR:
        raise ValueError(f"is not in the years {EARLIEST_YEAR} to {LATEST_YEAR}")
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ValueError("is not a day of the calendar") from error
    return moment.astimezone(UTC)


def format_timestamp(moment: datetime) -> str:
    """`moment` as RFC 3339 in UTC with `Z`, to the microsecond where it has any. Raises `ValueError` if naive."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone cannot be written down")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
