"""The platform's payload shapes, one model each, and what each comes to in our words.

Fields that we never read are not declared; whatever else the platform sends is ignored.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from schemas.events import EventKind, InboundEvent, Ping, ReservationEvent, Resource, ResourceEvent, User
from schemas.fields import Identifier, LongText, Moment, OptionalIdentifier, Parameters, Text

BATCH_LIMIT = 500

_NOT_LATER = PydanticCustomError("moorage", "must be later than the start")


class PlatformModel(BaseModel):
    """A payload, or a part of one: camelCase on the wire, unknown fields ignored."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")


class Message(PlatformModel):
    """What every payload carries."""

    event_type: str
    timestamp: Moment
    webhook_id: OptionalIdentifier = None

    def events(self) -> Sequence[InboundEvent]:
        """What the payload says, in order."""
        raise NotImplementedError


class Holder(PlatformModel):
    """The user, in flat payloads and batches."""

    user_id: Identifier
    username: Text = None
    email: Text = None
    ssh_public_key: LongText = None

    def user(self) -> User:
        return User(self.user_id, self.username, self.email, self.ssh_public_key)


class Booking(PlatformModel):
    """One reservation and what it is for, in flat payloads and batches. The end must be later than the start."""

    event_id: Identifier
    event_title: Text = None
    event_start: Moment
    event_end: Moment
    custom_parameters: Parameters = Field(default_factory=dict)
    resource_id: Identifier
    resource_name: Text = None
    resource_type: Text = None
    resource_specs: LongText = None
    resource_location: Text = None
    site_id: OptionalIdentifier = None
    site_name: Text = None

    @field_validator("event_end")
    @classmethod
    def _later_than_start(cls, end: datetime, info: ValidationInfo) -> datetime:
        return _later(end, info.data.get("event_start"))

    def of(self, user: User, message: Message) -> ReservationEvent:
        """The event this booking is for `user`, as `message` tells it."""
        return ReservationEvent(
            kind=EventKind(message.event_type),
            reservation_id=self.event_id,
            occurred_at=message.timestamp,
            start=self.event_start,
            end=self.event_end,
            user=user,
            resource=Resource(
                id=self.resource_id,
                name=self.resource_name,
                type=self.resource_type,
                specs=self.resource_specs,
                location=self.resource_location,
                site_id=self.site_id,
                site_name=self.site_name,
            ),
            title=self.event_title,
            parameters=self.custom_parameters,
            webhook_id=message.webhook_id,
        )


class FlatMessage(Booking, Holder, Message):
    """EVENT_START and EVENT_END: one reservation, all fields at the top."""

    event_type: Literal["EVENT_START", "EVENT_END"]

    def events(self) -> Sequence[ReservationEvent]:
        return (self.of(self.user(), self),)


class BatchMessage(Holder, Message):
    """EVENT_START and EVENT_END as older versions send them: one user, several reservations."""

    event_type: Literal["EVENT_START", "EVENT_END"]
    bookings: Annotated[list[Booking], Field(alias="events", min_length=1, max_length=BATCH_LIMIT)]

    def events(self) -> Sequence[ReservationEvent]:
        user = self.user()
        return [booking.of(user, self) for booking in self.bookings]


class ResourceType(PlatformModel):
    name: Text = None


class ResourceData(PlatformModel):
    """A resource, in envelopes."""

    id: Identifier
    name: Text = None
    type: ResourceType | None = None
    specs: LongText = None
    location: Text = None
    site_id: OptionalIdentifier = None
    site_name: Text = None

    def resource(self) -> Resource:
        kind = self.type.name if self.type else None
        return Resource(self.id, self.name, kind, self.specs, self.location, self.site_id, self.site_name)


class ReservationData(PlatformModel):
    """A reservation, in envelopes. The end must be later than the start."""

    id: Identifier
    title: Text = None
    start: Moment
    end: Moment
    updated_at: Moment | None = None
    keycloak_id: Identifier
    custom_parameters: Parameters = Field(default_factory=dict)
    resource: ResourceData

    @field_validator("end")
    @classmethod
    def _later_than_start(cls, end: datetime, info: ValidationInfo) -> datetime:
        return _later(end, info.data.get("start"))


class ReservationMessage(Message):
    """EVENT_CREATED, EVENT_UPDATED and EVENT_DELETED: the reservation in an envelope, its user an id alone."""

    event_type: Literal["EVENT_CREATED", "EVENT_UPDATED", "EVENT_DELETED"]
    data: ReservationData

    def events(self) -> Sequence[ReservationEvent]:
        data = self.data
        return (
            ReservationEvent(
                kind=EventKind(self.event_type),
                reservation_id=data.id,
                occurred_at=self.timestamp,
                start=data.start,
                end=data.end,
                user=User(data.keycloak_id),
                resource=data.resource.resource(),
                title=data.title,
                parameters=data.custom_parameters,
                updated_at=data.updated_at,
                webhook_id=self.webhook_id,
            ),
        )


class ResourceMessage(Message):
    """RESOURCE_CREATED, RESOURCE_UPDATED, RESOURCE_DELETED, or any later RESOURCE_*."""

    event_type: Annotated[str, StringConstraints(pattern=r"^RESOURCE_[A-Z_]{1,40}$")]
    data: ResourceData

    def events(self) -> Sequence[ResourceEvent]:
        return (ResourceEvent(self.event_type, self.timestamp, self.data.resource(), self.webhook_id),)


class PingMessage(Message):
    """ALL: the platform's test event."""

    event_type: Literal["ALL"]

    def events(self) -> Sequence[Ping]:
        return (Ping(self.timestamp, self.webhook_id),)


def _later(end: datetime, start: datetime | None) -> datetime:
    if start is not None and end <= start:
        raise _NOT_LATER
    return end
