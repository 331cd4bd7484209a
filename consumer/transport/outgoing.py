"""What a handler publishes."""

from dataclasses import dataclass

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish. Without `partition` the key decides, by Kafka's default partitioner.

    One that is `last` is sent only after all others of its outcome were acknowledged: what says that the outcome was
    reached belongs there.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    last: bool = False
