"""From a record to the lanes it concerns. The lane is the reservation's, whatever the record's key says."""

from collections.abc import Hashable

from consumer.handling.records import Item, Record
from schemas.events import ReservationEvent, ResourceEvent
from schemas.inbound import DecodeError, decode


def route(record: Record, *, max_bytes: int) -> tuple[tuple[Hashable, Item], ...]:
    """The (lane key, item) pairs of a record: several for a batch, one for all else, unreadable records included."""
    try:
        events = decode(record.value, max_bytes=max_bytes)
    except DecodeError as error:
        return ((_alone(record), Item(record, error)),)
    return tuple((_lane_key(record, event), Item(record, event)) for event in events)


def _lane_key(record: Record, event: object) -> Hashable:
    match event:
        case ReservationEvent(reservation_id=reservation_id):
            return reservation_id
        case ResourceEvent(resource=resource):
            return ("resource", resource.id)
        case _:
            return _alone(record)


def _alone(record: Record) -> Hashable:
    """A lane of its own: there is nothing this record must keep order with."""
    return (record.topic, record.partition, record.offset)
