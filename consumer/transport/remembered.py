"""The states of one partition in memory: as bytes, because there may be a million and events come for few of them."""

from collections.abc import Callable, Iterable, Iterator

import structlog

from consumer.handling.sealed import Seal
from schemas.state import ReservationState
from schemas.state_index import (
    STATE_HEADER,
    StateIndex,
    decode_state,
    index_bytes,
    is_current,
    parse_index,
    version_of,
)

log = structlog.get_logger("moorage.states")

_STUB = b'{"tooLarge":'
"""How that begins which the outbox writes in place of a state that no broker takes."""

Packed = tuple[bytes, bytes]
"""A state and its index, as they lie in the topic. A plain tuple of bytes, which the garbage collector passes over."""


class Remembered:
    """What is remembered in one partition of the state topic, by reservation.

    States that this release cannot read are sealed: they are neither decoded nor replaced nor dropped.
    """

    def __init__(self, partition: int, decode: Callable[[bytes], ReservationState] = decode_state) -> None:
        self.partition = partition
        self._decode = decode
        self._entries: dict[str, Packed | Seal] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, reservation_id: str) -> bool:
        return reservation_id in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def load(
        self, offset: int, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]
    ) -> None:
        """Take in the next record of the partition."""
        reservation_id = (key or b"").decode("utf-8", "replace")
        if value is None:
            self._entries.pop(reservation_id, None)
            return
        if value.startswith(_STUB):
            # Ours, and nothing is left in it that could be kept: as if nothing were remembered.
            log.warning("state_was_too_large", partition=self.partition, offset=offset, reservation=reservation_id)
            self._entries.pop(reservation_id, None)
            return
        for name, header in headers:
            if name == STATE_HEADER and header is not None and is_current(header):
                self._entries[reservation_id] = (value, header)
                return
        self._entries[reservation_id] = self._read(reservation_id, value, offset)

    def get(self, reservation_id: str) -> ReservationState | None:
        """Raises `Sealed`."""
        entry = self._entries.get(reservation_id)
        if entry is None:
            return None
        if isinstance(entry, Seal):
            raise entry.error()
        try:
            return self._decode(entry[0])
        except ValueError as error:
            seal = self._entries[reservation_id] = self._seal(reservation_id, entry[0], None, error)
            raise seal.error() from error

    def put(self, state: ReservationState) -> None:
        """Raises `Sealed` for one whose state must not be replaced."""
        if isinstance(entry := self._entries.get(state.reservation_id), Seal):
            raise entry.error()
        self._entries[state.reservation_id] = (state.to_bytes(), index_bytes(state))

    def index(self, reservation_id: str) -> StateIndex | None:
        """The essence of a state; None for one that is sealed as well as for one that is not remembered."""
        entry = self._entries.get(reservation_id)
        if entry is None or isinstance(entry, Seal):
            return None
        try:
            return parse_index(entry[1])
        except ValueError:  # not what we write, so the state itself has to tell
            entry = self._entries[reservation_id] = self._read(reservation_id, entry[0], None)
            return None if isinstance(entry, Seal) else parse_index(entry[1])

    def is_sealed(self, reservation_id: str) -> bool:
        return isinstance(self._entries.get(reservation_id), Seal)

    def drop(self, reservation_id: str) -> None:
        """Raises `Sealed`."""
        if isinstance(entry := self._entries.get(reservation_id), Seal):
            raise entry.error()
        self._entries.pop(reservation_id, None)

    def _read(self, reservation_id: str, value: bytes, offset: int | None) -> Packed | Seal:
        """The slow way: what there is to know of a state that has no index."""
        try:
            return value, index_bytes(decode_state(value))
        except ValueError as error:
            return self._seal(reservation_id, value, offset, error)

    def _seal(self, reservation_id: str, value: bytes, offset: int | None, error: ValueError) -> Seal:
        version = version_of(value)
        seal = Seal(self.partition, offset, version if version != 1 else None)
        what = "state_unreadable" if seal.version is None else "state_from_newer_version"
        log.warning(what, partition=self.partition, offset=offset, reservation=reservation_id, why=str(error))
        return seal
