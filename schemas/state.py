"""What Moorage remembers of a reservation between events: the value of the compacted state topic."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.events import Resource, User
from schemas.outbound import Access, Notes, Reason
from schemas.wire import WireModel


class Phase(StrEnum):
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    RELEASED = "RELEASED"
    FAILED = "FAILED"


class ReservationState(WireModel):
    """The remembered state of one reservation; a RELEASED one is a tombstone.

    `revision` names the booking that the state is about (it goes into result ids). `booking_version` is the
    highest `updatedAt` seen, absent while only flat events, which carry none, were seen. `start_seen` tells that a
    START came: from then on the reservation runs whenever its booking says so. `life` counts the environments it had
    that are over: what happened to one and what happened to the next have different result ids. `cpu_millis` and
    `memory_bytes` are the limits that its environment was made with. `placed` is the engine of a pool where one is to
    be made, and may be by now: it is remembered before anything is.
    """

    version: Literal[1] = 1
    reservation_id: str
    phase: Phase
    revision: str
    booking_version: datetime | None = None
    start: datetime
    end: datetime
    user: User
    resource: Resource
    title: str | None = None
    parameters: dict[str, str] = Field(default_factory=dict)
    webhook_id: str | None = None
    start_seen: bool = False
    life: int = 0
    runtime: str | None = None
    placed: str | None = None
    template: str | None = None
    environment: str | None = None
    image: str | None = None
    image_digest: str | None = None
    cpu_millis: int | None = None
    memory_bytes: int | None = None
    access: Access | None = None
    notes: Notes = ()
    reason: Reason | None = None
    changed_at: datetime
