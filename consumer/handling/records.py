"""A consumed record and what it was routed to."""

from dataclasses import dataclass

from consumer.dispatch import NO_OFFSET, Assignment
from schemas.events import InboundEvent
from schemas.inbound import DecodeError

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it came, byte for byte: a dead letter gives back exactly this."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def size(self) -> int:
        """Its weight in memory, in bytes, near enough for a budget."""
        return len(self.key or b"") + len(self.value or b"") + 512


def unwritten(assignment: Assignment, reservation_id: str) -> Record:
    """The record that work has which none asked for."""
    return Record(assignment.topic, assignment.partition, NO_OFFSET, -1, reservation_id.encode(), None)


@dataclass(frozen=True, slots=True)
class Review:
    """Nobody sent anything, but a reservation is to be looked at; with `look`, what its runtimes show of it too."""

    reservation_id: str
    look: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One lane's share of a record: an event, or the reason why the record cannot be read.

    For a review the record is one that nobody wrote.
    """

    record: Record
    content: InboundEvent | DecodeError | Review
