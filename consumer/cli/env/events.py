"""The events that operators publish, in the platform's own shapes: the ordinary way to end or to extend."""

import json
from datetime import datetime, timedelta
from typing import Any

from schemas.events import EventKind, Resource
from schemas.state import ReservationState
from schemas.timestamps import format_timestamp


def end_event(state: ReservationState, now: datetime) -> bytes:
    """The flat END of a reservation as it is remembered."""
    user, resource = state.user, state.resource
    return _encoded(
        EventKind.END,
        now,
        webhookId=state.webhook_id,
        eventId=state.reservation_id,
        eventTitle=state.title,
        eventStart=format_timestamp(state.start),
        eventEnd=format_timestamp(state.end),
        customParameters=json.dumps(state.parameters),
        userId=user.id,
        username=user.name,
        resourceId=resource.id,
        resourceName=resource.name,
        resourceType=resource.type,
        siteId=resource.site_id,
        siteName=resource.site_name,
    )


def extended_event(state: ReservationState, end: datetime, now: datetime) -> bytes:
    """The enveloped UPDATED that gives a reservation another end and leaves all else as it is."""
    data = {
        "updatedAt": format_timestamp(next_version(state)),
        "id": state.reservation_id,
        "title": state.title,
        "start": format_timestamp(state.start),
        "end": format_timestamp(end),
        "keycloakId": state.user.id,
        "customParameters": json.dumps(state.parameters),
        "resource": _resource(state.resource),
    }
    return _encoded(EventKind.UPDATED, now, webhookId=state.webhook_id, data=_known(data))


def next_version(state: ReservationState) -> datetime:
    """The smallest version that is newer than what is remembered of the booking.

    Not the present time: an update by the platform that Moorage has yet to handle must win over one that was made
    without knowing it. Where no version is known, what is remembered is of the time it last changed.
    """
    if state.booking_version is None:
        return state.changed_at
    return state.booking_version + timedelta(microseconds=1)


def _resource(resource: Resource) -> dict[str, Any]:
    return _known(
        {
            "id": resource.id,
            "name": resource.name,
            "type": {"name": resource.type} if resource.type is not None else None,
            "specs": resource.specs,
            "location": resource.location,
            "siteId": resource.site_id,
            "siteName": resource.site_name,
        }
    )


def _encoded(kind: EventKind, now: datetime, **fields: Any) -> bytes:
    document = {"eventType": kind, "timestamp": format_timestamp(now)} | _known(fields)
    return json.dumps(document, ensure_ascii=False).encode()


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
