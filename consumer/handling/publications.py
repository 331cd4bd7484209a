"""What handling wants published, and how each kind of message is built."""

import json
import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto

from consumer.handling.ports import Environment, Progress
from consumer.handling.records import Headers, Record
from schemas.cloudevents import NOTIFICATION_TYPE, PROGRESS_TYPE, message_headers, result_type
from schemas.deadletter import dead_letter_headers
from schemas.events import EventKind, ReservationEvent
from schemas.outbound import (
    Notification,
    NotificationType,
    Outcome,
    ProgressReport,
    Reason,
    Result,
    Timings,
    result_id,
)
from schemas.state import ReservationState
from schemas.state_index import STATE_HEADER, index_bytes


class Channel(Enum):
    """Where a publication goes. State is written only after all the others of its outcome were acknowledged."""

    OUTBOUND = auto()
    DEAD_LETTER = auto()
    INBOUND = auto()
    STATE = auto()


@dataclass(frozen=True, slots=True)
class Publication:
    """One message to publish. Without `partition` the key decides, by Kafka's default partitioner."""

    channel: Channel
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What every message of one outcome shares."""

    instance: str
    record: Record
    event: ReservationEvent
    now: datetime

    @property
    def source(self) -> str:
        return f"/moorage/{self.instance}"

    @property
    def traceparent(self) -> bytes | None:
        return next((value for name, value in self.record.headers if name == "traceparent"), None)


def result(
    context: Context,
    state: ReservationState,
    outcome: Outcome,
    reason: Reason | None,
    timings: Timings | None = None,
) -> tuple[Result, Publication]:
    """The result for machines."""
    body = Result(
        id=result_id(context.instance, state.reservation_id, state.revision, outcome, reason, state.life),
        outcome=outcome,
        event_id=state.reservation_id,
        event_type=context.event.kind,
        revision=state.revision,
        instance=context.instance,
        user_id=state.user.id,
        username=state.user.name,
        resource_id=state.resource.id,
        resource_name=state.resource.name,
        resource_type=state.resource.type,
        start=state.start,
        end=state.end,
        runtime=state.runtime,
        template=state.template,
        environment=state.environment,
        image=state.image,
        image_digest=state.image_digest,
        access=state.access,
        notes=state.notes,
        timings=timings,
        reason=reason,
        occurred_at=context.now,
        webhook_id=state.webhook_id,
    )
    return body, _outbound(context, body.id, result_type(outcome), body.to_bytes())


def notification(context: Context, body: Result, message: str, kind: NotificationType) -> Publication:
    """The notification for a person; its id follows from the result's and what it says, so a repetition is recognised.

    The same result with another message is news: an environment that had to be made again has another address.
    """
    metadata: dict[str, object] = {"resultId": body.id, "outcome": body.outcome}
    if body.runtime:
        metadata["runtime"] = body.runtime
    if body.reason:
        metadata["reason"] = body.reason.code
    if body.access:
        metadata["host"] = body.access.host
        metadata["ports"] = {str(port.port): port.host_port for port in body.access.ports}
    note = Notification(
        webhook_id=body.webhook_id,
        user_id=body.user_id,
        message=message,
        type=kind,
        event_id=body.event_id,
        resource_id=body.resource_id,
        event_type=body.event_type,
        metadata=metadata,
    )
    note_id = str(uuid.uuid5(uuid.UUID(body.id), message))
    return _outbound(context, note_id, NOTIFICATION_TYPE, note.to_bytes())


def progress(context: Context, state: ReservationState, step: Progress, now: datetime) -> Publication:
    """How far a start is, for machines."""
    body = ProgressReport(
        event_id=state.reservation_id,
        event_type=context.event.kind,
        revision=state.revision,
        instance=context.instance,
        user_id=state.user.id,
        resource_id=state.resource.id,
        stage=step.stage,
        detail=step.detail,
        occurred_at=now,
        webhook_id=state.webhook_id,
    )
    return _outbound(replace(context, now=now), str(uuid.uuid4()), PROGRESS_TYPE, body.to_bytes())


def state(context: Context, value: ReservationState) -> Publication:
    """The state to remember, in the partition the event came from: its owner restores it from there."""
    return Publication(
        Channel.STATE,
        value.reservation_id.encode(),
        value.to_bytes(),
        ((STATE_HEADER, index_bytes(value)),),
        partition=context.record.partition,
    )


def dead_letter(record: Record, *, instance: str, code: str, message: str, now: datetime) -> Publication:
    """The record itself, untouched, with headers that say where it came from and what was wrong."""
    headers = dead_letter_headers(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        headers=record.headers,
        error_code=code,
        error_message=message,
        instance=instance,
        failed_at=now,
    )
    return Publication(Channel.DEAD_LETTER, record.key, record.value, tuple(headers))


def end_of(environment: Environment, now: datetime) -> Publication:
    """An END for whoever owns the reservation of `environment`: environments end in their lane, never around it."""
    end = max(environment.expires_at or now, now)
    body = {
        "eventType": EventKind.END,
        "timestamp": now.isoformat(),
        "eventId": environment.reservation_id,
        "userId": "unknown",
        "eventStart": datetime.fromtimestamp(0, now.tzinfo).isoformat(),
        "eventEnd": end.isoformat(),
        "resourceId": environment.resource_id,
    }
    return Publication(Channel.INBOUND, environment.reservation_id.encode(), json.dumps(body).encode())


def event_for(state: ReservationState, kind: EventKind, now: datetime) -> ReservationEvent:
    """What nobody sent, but what a review comes to: the END or START of a reservation as it is remembered."""
    return ReservationEvent(
        kind=kind,
        reservation_id=state.reservation_id,
        occurred_at=now,
        start=state.start,
        end=state.end,
        user=state.user,
        resource=state.resource,
        title=state.title,
        parameters=state.parameters,
        webhook_id=state.webhook_id,
    )


def as_record(record: Record, event: ReservationEvent) -> Record:
    """`record`, with the event as the platform would have sent it: so that its dead letter can be replayed."""
    body = {
        "eventType": event.kind,
        "timestamp": event.occurred_at.isoformat(),
        "eventId": event.reservation_id,
        "eventTitle": event.title,
        "userId": event.user.id,
        "username": event.user.name,
        "email": event.user.email,
        "sshPublicKey": event.user.ssh_public_key,
        "eventStart": event.start.isoformat(),
        "eventEnd": event.end.isoformat(),
        "resourceId": event.resource.id,
        "resourceName": event.resource.name,
        "resourceType": event.resource.type,
        "customParameters": dict(event.parameters),
        "webhookId": event.webhook_id,
    }
    told = {name: value for name, value in body.items() if value is not None}
    return replace(record, key=event.reservation_id.encode(), value=json.dumps(told).encode())


def _outbound(context: Context, message_id: str, kind: str, value: bytes) -> Publication:
    reservation_id = context.event.reservation_id
    headers = message_headers(
        id=message_id,
        type=kind,
        source=context.source,
        subject=reservation_id,
        time=context.now,
        traceparent=context.traceparent,
    )
    return Publication(Channel.OUTBOUND, reservation_id.encode(), value, tuple(headers))
