"""What should run, told in a dozen lines from everything that was ever sent about a reservation."""

from collections.abc import Iterable
from datetime import UTC, datetime

from consumer.reservations import Policy
from schemas.events import EventKind, ReservationEvent

_OLDEST = datetime(1970, 1, 1, tzinfo=UTC)

ENDINGS = (EventKind.END, EventKind.DELETED)
VERSIONS = (EventKind.CREATED, EventKind.UPDATED)


def has_ended(events: Iterable[ReservationEvent]) -> bool:
    return any(event.kind in ENDINGS for event in events)


def booking_of(events: Iterable[ReservationEvent]) -> ReservationEvent | None:
    """The newest version; where there is none, what the last START said."""
    versions = [event for event in events if event.kind in VERSIONS]
    starts = [event for event in events if event.kind is EventKind.START]
    if versions:
        return max(versions, key=lambda event: event.updated_at or _OLDEST)
    return starts[-1] if starts else None


def wanted(events: list[ReservationEvent], now: datetime, policy: Policy) -> ReservationEvent | None:
    """The booking that should be running now, if there is one."""
    booking = booking_of(events)
    if booking is None or has_ended(events) or booking.end <= now:
        return None
    if any(event.kind is EventKind.START for event in events) or policy.self_schedule:
        early = booking.kind in VERSIONS and booking.start > now + policy.lead
        return None if early else booking
    return None


def turning_points(events: list[ReservationEvent], policy: Policy) -> list[datetime]:
    """When what should be running changes, or somebody acts, by time alone."""
    booking = booking_of(events)
    return [] if booking is None else [booking.start - policy.lead, booking.end, booking.end + policy.grace]
