"""Topics: append-only logs, one for each partition."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiokafka.errors import OffsetOutOfRangeError

Headers = tuple[tuple[str, bytes | None], ...]

_OVERHEAD = 70
"""Bytes that a record takes beside its key, value and headers, near enough."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record as it lies in a partition. `timestamp_ms` is Unix milliseconds."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def size(self) -> int:
        return size_of(self.key, self.value, self.headers)


def size_of(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Bytes of a record in a batch, near enough for limits."""
    extra = sum(len(name) + len(content or b"") for name, content in headers)
    return _OVERHEAD + len(key or b"") + len(value or b"") + extra


class PartitionLog:
    """The records of one partition, their offsets rising but not always by one."""

    def __init__(self) -> None:
        self.records: list[StoredRecord] = []
        self.start = 0
        """The lowest offset that can be read."""

        self.end = 0
        """The offset of the next record."""

    def append(self, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> StoredRecord:
        record = StoredRecord(self.end, timestamp_ms, key, value, headers)
        self.records.append(record)
        self.end += 1
        return record

    def skip(self, offsets: int = 1) -> None:
        """Leave out some offsets, as the markers of transactions do."""
        self.end += offsets

    def truncate(self, start: int) -> None:
        """Drop everything below `start`, as retention does."""
        self.start = min(max(self.start, start), self.end)
        del self.records[: self._index(self.start)]

    def remove(self, offsets: Iterable[int]) -> None:
        """Drop single records, as compaction does."""
        gone = set(offsets)
        self.records = [record for record in self.records if record.offset not in gone]

    def read(self, offset: int, max_bytes: int) -> tuple[list[StoredRecord], int]:
        """Records from `offset` on, at least one if there is any, and where to read on.

        Raises `OffsetOutOfRangeError`.
        """
        if not self.start <= offset <= self.end:
            raise OffsetOutOfRangeError(f"{offset} is not in [{self.start}, {self.end}]")
        found: list[StoredRecord] = []
        for index in range(self._index(offset), len(self.records)):
            record = self.records[index]
            max_bytes -= record.size
            if max_bytes < 0 and found:
                return found, record.offset
            found.append(record)
        return found, self.end

    def _index(self, offset: int) -> int:
        return bisect_left(self.records, offset, key=lambda record: record.offset)


@dataclass(slots=True, eq=False)
class Topic:
    """A topic. Change its settings whenever you like."""

    name: str
    partitions: list[PartitionLog]
    configs: dict[str, str] = field(default_factory=dict)
    """As given when it was created."""

    readable: bool = True
    """Whether clients are authorised to read it."""

    writable: bool = True
    """Whether clients are authorised to write to it."""

    sequences: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)
    """By (producer, partition): the sequence number of its last batch, the next one's, and where the last one lies."""

    @property
    def max_message_bytes(self) -> int:
        return int(self.configs.get("max.message.bytes", 1_048_588))

    @property
    def records(self) -> list[tuple[int, StoredRecord]]:
        """All that lies there, with its partition: partition by partition, in order."""
        return [(number, record) for number, log in enumerate(self.partitions) for record in log.records]
