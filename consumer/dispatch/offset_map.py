"""Which offsets above the watermark are done: small enough to travel in the metadata of a commit.

Kafka keeps one offset a partition, and a string beside it. Work above the lowest unfinished offset is remembered in
that string, so that whoever owns the partition next does not repeat it. The text is `m1`, then base64 of: the CRC-32 of
all that follows (four bytes, the highest first), one byte that says how the rest is packed, the committed offset
(varint), the number of offsets described (varint), and these, from the committed one on, as run lengths (varints:
pending, done, pending, ...) or as a bitset (1 is pending), deflated or not. Whichever of the four is shortest is used.

A garbled map would have work left out that nobody did. That is what the checksum is for.
"""

import base64
import binascii
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import STRICT, IntFlag
from typing import Self

LIMIT = 4096
"""Characters of metadata that brokers take: the default of `offset.metadata.max.bytes`."""

_VERSION = "m1"
_MOST_PENDING = 1_000_000
_MOST_INFLATED = 1 << 18
"""Bytes. Reading more of them would hold up the event loop."""

_LONGEST_BITSET = 16 * 1024
"""Bytes. A longer one does not become short enough, however well it deflates, to be worth the attempt."""


class OffsetMapError(ValueError):
    """This metadata is not a map of ours, or not one for this offset."""


class _Packing(IntFlag, boundary=STRICT):
    RUNS = 0
    BITSET = 1
    DEFLATED = 2


@dataclass(frozen=True, slots=True)
class OffsetMap:
    """The offsets in [position, end) that are not done, rising; `position` is the first of them."""

    position: int
    end: int
    pending: Sequence[int]

    def encode(self) -> str:
        """The map as text; empty when nothing above the position is known."""
        if not self.pending:
            return ""
        span = self.end - self.position
        bodies = [(_Packing.RUNS, b"".join(map(_varint, self._runs())))]
        if span <= _LONGEST_BITSET * 8:
            bodies.append((_Packing.BITSET, self._bitset(span)))
        bodies += [
            (packing | _Packing.DEFLATED, zlib.compress(body, 9, -15))
            for packing, body in bodies
            if len(body) <= _MOST_INFLATED
        ]
        packing, body = min(bodies, key=lambda each: len(each[1]))
        packed = bytes([packing]) + _varint(self.position) + _varint(span) + body
        return _VERSION + base64.b64encode(_checksum(packed) + packed).decode("ascii").rstrip("=")

    @classmethod
    def decode(cls, text: str, position: int) -> Self:
        """The map that was committed together with `position`. Raises `OffsetMapError`."""
        if not text.startswith(_VERSION):
            raise OffsetMapError(f"it begins with {text[:2]!r}, and only {_VERSION} is known")
        if len(text) > LIMIT:
            raise OffsetMapError(f"it has {len(text)} characters, and a broker takes {LIMIT}")
        encoded = text[len(_VERSION) :]
        try:
            decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
            packed = _checked(decoded)
            packing = _Packing(packed[0])
            committed, at = _read_varint(packed, 1)
            span, at = _read_varint(packed, at)
            body = packed[at:]
            if _Packing.DEFLATED in packing:
                body = _inflate(body)
        except (IndexError, ValueError, binascii.Error, zlib.error) as error:
            raise OffsetMapError(f"it cannot be unpacked: {error}") from error
        if committed != position:
            raise OffsetMapError(f"it belongs to offset {committed}, not to {position}")
        unpack = _pending_bits if _Packing.BITSET in packing else _pending_runs
        pending = list(unpack(body, position, span))
        if not pending or pending[0] != position:
            raise OffsetMapError("it does not begin with an offset that is pending")
        return cls(position, position + span, pending)

    def _runs(self) -> Iterator[int]:
        """Lengths of pending and done stretches, in turns; the last done one goes without saying."""
        start = expected = self.position
        for offset in self.pending:
            if offset != expected:
                yield expected - start
                yield offset - expected
                start = offset
            expected = offset + 1
        yield expected - start

    def _bitset(self, span: int) -> bytes:
        bits = bytearray((span + 7) // 8)
        for offset in self.pending:
            index = offset - self.position
            bits[index >> 3] |= 1 << (index & 7)
        return bytes(bits)


def _pending_runs(body: bytes, position: int, span: int) -> Iterator[int]:
    at, offset, end, is_pending, left = 0, position, position + span, True, _MOST_PENDING
    while at < len(body):
        length, at = _read_run(body, at)
        if offset + length > end:
            raise OffsetMapError("its runs are longer than what it describes")
        if is_pending:
            left -= length
            if left < 0:
                raise OffsetMapError(f"more than {_MOST_PENDING} offsets are pending")
            yield from range(offset, offset + length)
        offset += length
        is_pending = not is_pending


def _pending_bits(body: bytes, position: int, span: int) -> Iterator[int]:
    if len(body) != (span + 7) // 8 or len(body) > _LONGEST_BITSET:
        raise OffsetMapError(f"its bitset has {len(body)} bytes for {span} offsets")
    for index, byte in enumerate(body):
        for bit in range(8):
            if byte >> bit & 1:
                if index * 8 + bit >= span:
                    raise OffsetMapError("its bitset is longer than what it describes")
                yield position + index * 8 + bit


def _read_run(body: bytes, at: int) -> tuple[int, int]:
    try:
        return _read_varint(body, at)
    except (IndexError, ValueError) as error:
        raise OffsetMapError(f"its runs cannot be read: {error}") from error


def _checksum(packed: bytes) -> bytes:
    return zlib.crc32(packed).to_bytes(4, "big")


def _checked(decoded: bytes) -> bytes:
    checksum, packed = decoded[:4], decoded[4:]
    if checksum != _checksum(packed):
        raise ValueError("its checksum is wrong")
    return packed


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj(-15)
    inflated = inflater.decompress(body, _MOST_INFLATED)
    if not inflater.eof:
        raise ValueError("it is cut off, or larger than any map")
    return inflated


def _varint(number: int) -> bytes:
    """As in protocol buffers: seven bits a byte, the lowest first, the top bit set while more follow."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
