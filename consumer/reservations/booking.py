"""What is booked, put together from events of two kinds: versioned ones and flat ones.

Enveloped events carry `updatedAt`, so the newest is known whatever the order of arrival. Flat ones (START, END) carry
only the time they were sent, which a duplicate has anew. So versions decide when, what and whose, and flat events fill
in what versions never tell: the user's name, address and key.
"""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

from schemas.events import EventKind, ReservationEvent, Resource, User
from schemas.state import Phase, ReservationState

_OLDEST = datetime(1970, 1, 1, tzinfo=UTC)


def version_of(event: ReservationEvent) -> datetime | None:
    """The version of the booking that the event tells of; None for flat events and deletions, which tell of none.

    A booking without `updatedAt` is older than any with one. The time it was sent says nothing: a stale duplicate has
    that anew.
    """
    if event.kind in (EventKind.CREATED, EventKind.UPDATED):
        return event.updated_at or _OLDEST
    return None


def first_seen(event: ReservationEvent, now: datetime) -> ReservationState:
    """The state of a reservation of which this event is the first."""
    state = ReservationState(
        reservation_id=event.reservation_id,
        phase=Phase.PENDING,
        revision="",
        booking_version=version_of(event),
        start=event.start,
        end=event.end,
        user=event.user,
        resource=event.resource,
        title=event.title,
        parameters=dict(event.parameters),
        webhook_id=event.webhook_id,
        changed_at=now,
    )
    return state.model_copy(update={"revision": revision_of(state)})


def amended(state: ReservationState, event: ReservationEvent, now: datetime) -> ReservationState:
    """`state` with the booking of a newer version; details it leaves out are kept where they still fit."""
    state = state.model_copy(
        update={
            "booking_version": version_of(event),
            "start": event.start,
            "end": event.end,
            "user": _same_user_fuller(event.user, state.user),
            "resource": _same_resource_fuller(event.resource, state.resource),
            "title": event.title or state.title,
            "parameters": dict(event.parameters) or state.parameters,
            "webhook_id": event.webhook_id or state.webhook_id,
            "changed_at": now,
        }
    )
    return state.model_copy(update={"revision": revision_of(state)})


def completed(state: ReservationState, event: ReservationEvent, now: datetime) -> ReservationState:
    """`state` with the details of a flat event; the booking itself only where no version is known."""
    if state.booking_version is None:
        merged = first_seen(event, now)
        update = {
            "start": merged.start,
            "end": merged.end,
            "user": _same_user_fuller(event.user, state.user),
            "resource": _same_resource_fuller(event.resource, state.resource),
            "parameters": merged.parameters or state.parameters,
        }
    else:
        update = {
            "user": _with_key_of(event.user, _same_user_fuller(state.user, event.user)),
            "resource": _same_resource_fuller(state.resource, event.resource),
            "parameters": state.parameters or dict(event.parameters),
        }
    update |= {"title": state.title or event.title, "webhook_id": state.webhook_id or event.webhook_id}
    state = state.model_copy(update=update)
    return state.model_copy(update={"revision": revision_of(state)})


def revision_of(state: ReservationState) -> str:
    """12 hex digits that name this booking: the same booking always has the same, whenever its events were sent."""
    # As text, because a moment restored from JSON equals its original but has another `repr`.
    moments = (state.booking_version, state.start, state.end)
    identity = (
        *(moment and moment.astimezone(UTC).isoformat() for moment in moments),
        state.user.id,
        state.resource.id,
        sorted(state.parameters.items()),
    )
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:12]


def _same_user_fuller(user: User, other: User) -> User:
    """`user`, with what `other` knows of the same person."""
    if user.id != other.id:
        return user
    return replace(
        user,
        name=user.name or other.name,
        email=user.email or other.email,
        ssh_public_key=user.ssh_public_key or other.ssh_public_key,
    )


def _with_key_of(newer: User, user: User) -> User:
    """`user` with the key that a flat event brings: versions tell of none, so whoever corrects it sends it this way."""
    if newer.id != user.id or newer.ssh_public_key is None:
        return user
    return replace(user, ssh_public_key=newer.ssh_public_key)


def _same_resource_fuller(resource: Resource, other: Resource) -> Resource:
    """`resource`, with what `other` knows of the same resource."""
    if resource.id != other.id:
        return resource
    return replace(
        resource,
        name=resource.name or other.name,
        type=resource.type or other.type,
        specs=resource.specs or other.specs,
        location=resource.location or other.location,
        site_id=resource.site_id or other.site_id,
        site_name=resource.site_name or other.site_name,
    )
