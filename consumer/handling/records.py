"""A consumed record and what it was routed to."""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Item:
    """One lane's share of a record: an event, or the reason why the record cannot be read."""

    record: Record
    content: InboundEvent | DecodeError
