"""Offset maps as text: nothing is lost on the way, nothing is longer than need be, and garbage is told from them."""

import base64
import random
import string
import tracemalloc
import zlib
from contextlib import suppress
from itertools import accumulate, chain, count, cycle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.dispatch import OffsetMap, OffsetMapError
from consumer.dispatch.offset_map import LIMIT

RUNS, BITSET, DEFLATED = 0, 1, 2


def map_of(position: int, *runs: int) -> OffsetMap:
    """From the lengths of pending, done, pending, ... stretches."""
    bounds = [*accumulate(runs, initial=position)]
    stretches = [range(start, end) for start, end in zip(bounds[::2], bounds[1::2], strict=False)]
    return OffsetMap(position, bounds[-1], list(chain.from_iterable(stretches)))


def drawn(position: int, span: int, share: float, seed: int = 1) -> OffsetMap:
    """Pending at random, but for the first."""
    draw = random.Random(seed)  # noqa: S311 - the same map every time
    pending = [position, *(offset for offset in range(position + 1, position + span) if draw.random() < share)]
    return OffsetMap(position, position + span, pending)


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def sealed(packing: int, position: int, span: int, body: bytes) -> str:
    """A map's text by the book, whatever its content."""
    if packing & DEFLATED:
        body = zlib.compress(body, 9, -15)
    packed = bytes([packing]) + varint(position) + varint(span) + body
    return "m1" + base64.b64encode(zlib.crc32(packed).to_bytes(4, "big") + packed).decode().rstrip("=")


def as_runs(known: OffsetMap) -> bytes:
    pending, lengths, offset = set(known.pending), [], known.position
    for wanted in cycle((True, False)):
        length = next(n for n in count() if offset + n == known.end or (offset + n in pending) is not wanted)
        if not pending or offset > max(pending):
            break  # the last done stretch goes without saying
        lengths.append(length)
        offset += length
    return b"".join(map(varint, lengths))


def as_bitset(known: OffsetMap) -> bytes:
    bits = sum(1 << (offset - known.position) for offset in known.pending)
    return bits.to_bytes((known.end - known.position + 7) // 8, "little")


positions = st.sampled_from([0, 1, 10**12, 2**62]) | st.integers(0, 10**13)
small_maps = st.builds(
    lambda position, runs: map_of(position, *runs), positions, st.lists(st.integers(1, 40), min_size=1, max_size=30)
)
pairs = st.tuples(st.integers(1, 2000), st.integers(1, 10**9))
long_maps = st.builds(
    lambda position, runs, last: map_of(position, *chain.from_iterable(runs), *last),
    positions,
    st.lists(pairs, max_size=20),
    st.just([1]) | st.tuples(st.integers(1, 2000)) | pairs,
)
random_maps = st.builds(
    drawn, positions, st.integers(1, 3000), st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0]), st.integers(0, 10**6)
)
alternating_maps = st.builds(
    lambda position, pair, times: map_of(position, *pair * times),
    positions,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 500),
)
maps = small_maps | long_maps | random_maps | alternating_maps
texts_of_maps = maps.map(OffsetMap.encode).filter(lambda text: len(text) <= LIMIT)


@given(maps)
@example(map_of(0, 1))
@example(map_of(10**12, 1_000_000))
@example(map_of(10**12, 1, 10**15, 1))
@example(map_of(0, *[1] * 5001))
def test_what_is_written_is_read_again(known: OffsetMap) -> None:
    text = known.encode()
    if len(text) <= LIMIT:
        assert OffsetMap.decode(text, known.position) == known
    else:
        with pytest.raises(OffsetMapError):
            OffsetMap.decode(text, known.position)


@given(small_maps | random_maps | alternating_maps)
def test_the_shortest_of_the_four_ways_is_taken(known: OffsetMap) -> None:
    span, runs, bitset = known.end - known.position, as_runs(known), as_bitset(known)
    texts = [
        sealed(packing, known.position, span, body)
        for packing, body in [(RUNS, runs), (BITSET, bitset), (RUNS | DEFLATED, runs), (BITSET | DEFLATED, bitset)]
    ]
    assert known.encode() in texts
    assert len(known.encode()) == min(map(len, texts))


def test_where_nothing_is_pending_there_is_nothing_to_write() -> None:
    assert OffsetMap(10**12, 10**12, []).encode() == ""


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(map_of(10**12, 10_000), id="10,000 pending and none done"),
        pytest.param(map_of(10**12, 1, 10**9), id="one pending below a thousand million done"),
        pytest.param(map_of(10**12, *[1] * 9_999), id="every other of 10,000 pending"),
        pytest.param(drawn(10**12, 10_000, 0.5), id="5,000 of 10,000 at random"),
        pytest.param(drawn(10**12, 20_000, 0.5), id="10,000 of 20,000 at random"),
        pytest.param(drawn(10**12, 100_000, 0.01), id="1,000 of 100,000 at random"),
        pytest.param(drawn(10**12, 1_000_000, 0.001), id="1,000 of 1,000,000 at random"),
    ],
)
def test_what_is_to_be_expected_fits_into_a_commit(known: OffsetMap) -> None:
    text = known.encode()
    assert len(text) <= LIMIT
    assert OffsetMap.decode(text, known.position) == known


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(drawn(0, 30_000, 0.5), id="15,000 of 30,000 at random"),
        pytest.param(drawn(0, 1_000_000, 0.01), id="10,000 of 1,000,000 at random"),
        pytest.param(map_of(0, *[1] * 1_000_001), id="every other of 1,000,000"),
    ],
)
def test_what_has_more_to_tell_than_a_commit_can_hold_is_longer_and_is_not_read(known: OffsetMap) -> None:
    text = known.encode()
    assert len(text) > LIMIT
    with pytest.raises(OffsetMapError, match="a broker takes 4096"):
        OffsetMap.decode(text, 0)


def test_the_text_is_plain_ascii() -> None:
    assert set(drawn(10**12, 10_000, 0.5).encode()) <= set(string.ascii_letters + string.digits + "+/")


# What is not a map, or not this one


@given(texts_of_maps, st.data())
def test_another_offset_is_not_the_one_it_belongs_to(text: str, data: st.DataObject) -> None:
    known = OffsetMap.decode(text, _position_of(text))
    other = data.draw(st.integers(0, 2**63 - 1).filter(lambda number: number != known.position))
    with pytest.raises(OffsetMapError, match="belongs to offset"):
        OffsetMap.decode(text, other)


@given(texts_of_maps, st.data())
def test_one_that_was_cut_off_is_refused(text: str, data: st.DataObject) -> None:
    with pytest.raises(OffsetMapError):
        OffsetMap.decode(text[: data.draw(st.integers(0, len(text) - 1))], _position_of(text))


@given(texts_of_maps, st.text(min_size=1, max_size=20))
def test_one_with_something_behind_it_is_refused(text: str, behind: str) -> None:
    if behind.strip("="):
        with pytest.raises(OffsetMapError):
            OffsetMap.decode(text + behind, _position_of(text))


@given(texts_of_maps, st.data())
def test_one_with_a_bit_flipped_is_refused_or_still_says_the_same(text: str, data: st.DataObject) -> None:
    """The last character has bits to spare that mean nothing."""
    position, raw = _position_of(text), bytearray(text.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = OffsetMap.decode(raw.decode("latin-1"), position)
    except OffsetMapError:
        return
    assert read == OffsetMap.decode(text, position)
    assert raw[:-1] == text.encode()[:-1]


@given(texts_of_maps, st.data())
def test_one_with_two_bytes_mixed_up_is_refused(text: str, data: st.DataObject) -> None:
    position, packed = _position_of(text), bytearray(_unpacked(text))
    for _ in range(2):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    if packed != _unpacked(text):
        with pytest.raises(OffsetMapError):
            OffsetMap.decode("m1" + base64.b64encode(packed).decode(), position)


@given(st.text(max_size=5000) | st.text(string.ascii_letters + string.digits + "+/=", max_size=5000), st.booleans())
@example("", False)
@example("", True)
@example("m", False)
@example("=", True)
@example("A", True)
@example("====", True)
@example("AA==AA==", True)
@example("\ud800", True)
@example("AAAA\n", True)
def test_any_other_text_is_refused(text: str, begins_like_ours: bool) -> None:
    with pytest.raises(OffsetMapError):
        OffsetMap.decode("m1" + text if begins_like_ours else text, 0)


@pytest.mark.parametrize(
    "metadata",
    ["", "NO_METADATA", "consumer-1-8f3c", '{"v":1}', "AgAJARM=", "m", "M1" + map_of(0, 1).encode()[2:], " m1", "m10"],
)
def test_the_metadata_of_other_tools_is_refused(metadata: str) -> None:
    with pytest.raises(OffsetMapError):
        OffsetMap.decode(metadata, 0)


def test_a_version_to_come_is_refused_by_its_name() -> None:
    with pytest.raises(OffsetMapError, match="'m2'"):
        OffsetMap.decode("m2" + map_of(0, 1).encode()[2:], 0)


def test_our_own_text_can_be_built_by_the_book() -> None:
    assert OffsetMap.decode(sealed(RUNS, 7, 100, varint(1)), 7) == map_of(7, 1, 99)
    assert OffsetMap.decode(sealed(BITSET, 7, 9, b"\x03\x01"), 7) == map_of(7, 2, 6, 1)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(sealed(4, 7, 9, b"\x03\x01"), id="a packing that does not exist"),
        pytest.param(sealed(0xFF & ~DEFLATED, 7, 9, b"\x03\x01"), id="all bits of the packing"),
        pytest.param(sealed(RUNS, 7, 9, b""), id="nothing pending in runs"),
        pytest.param(sealed(RUNS, 7, 0, b"\x01"), id="nothing described"),
        pytest.param(sealed(RUNS, 7, 9, varint(0) + varint(1) + varint(1)), id="the first one done in runs"),
        pytest.param(sealed(RUNS, 7, 9, varint(10)), id="a run that is too long"),
        pytest.param(sealed(RUNS, 7, 9, varint(2) + varint(2**64)), id="a done run that is too long"),
        pytest.param(sealed(RUNS, 7, 9, b"\x01\x80"), id="a run that is cut off"),
        pytest.param(sealed(RUNS, 7, 9, b"\x80" * 20 + b"\x01"), id="a number without an end"),
        pytest.param(sealed(RUNS | DEFLATED, 7, 9, b"\x01\x80"), id="a run that is cut off before it was deflated"),
        pytest.param(sealed(BITSET, 7, 9, b""), id="no bitset"),
        pytest.param(sealed(BITSET, 7, 9, b"\x03"), id="a bitset that is too short"),
        pytest.param(sealed(BITSET, 7, 9, b"\x03\x01\x00"), id="a bitset that is too long"),
        pytest.param(sealed(BITSET, 7, 9, b"\x03\x03"), id="a bit beyond the end"),
        pytest.param(sealed(BITSET, 7, 9, b"\x00\x00"), id="nothing pending in a bitset"),
        pytest.param(sealed(BITSET, 7, 9, b"\x02\x00"), id="the first one done in a bitset"),
        pytest.param(sealed(BITSET, 7, 0, b""), id="nothing described in a bitset"),
        pytest.param(sealed(BITSET, 7, 2**60, b"\x03\x01"), id="a bitset for more than there can be"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused(text: str) -> None:
    with pytest.raises(OffsetMapError):
        OffsetMap.decode(text, 7)


@given(st.integers(0, 255), positions, st.integers(0, 2**66), st.binary(max_size=300))
def test_whatever_a_map_is_made_of_it_is_read_well_or_refused(
    packing: int, position: int, span: int, body: bytes
) -> None:
    try:
        known = OffsetMap.decode(sealed(packing, position, span, body), position)
    except OffsetMapError:
        return
    assert known.end - known.position == span
    assert known.pending[0] == position
    assert list(known.pending) == sorted(set(known.pending))
    assert known.pending[-1] < known.end


BOMBS = {
    "a million zeros": sealed(RUNS | DEFLATED, 7, 2**40, bytes(10**6)),
    "as many runs as fit": sealed(RUNS | DEFLATED, 7, 2**40, b"\x01" * ((1 << 18) - 1)),
    "a million runs": sealed(RUNS | DEFLATED, 7, 2**40, b"\x01" * 10**6),
    "three million zeros in a bitset": sealed(BITSET | DEFLATED, 7, 8 * 3 * 10**6, bytes(3 * 10**6)),
    "eight million bits": sealed(BITSET | DEFLATED, 7, 8 * 10**6, b"\xff" * 10**6),
    "as many bits as are inflated": sealed(BITSET | DEFLATED, 7, 8 * ((1 << 18) - 1), b"\xff" * ((1 << 18) - 1)),
    "a thousand million pending": sealed(RUNS, 7, 2**40, varint(10**9)),
    "ever more pending": sealed(RUNS, 7, 2**40, (varint(900_000) + varint(1)) * 100),
    "as many pending as are believed": sealed(RUNS, 7, 2**40, varint(10**6)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        _try_to_read(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_no_bomb_is_longer_than_a_broker_takes() -> None:
    assert all(len(text) <= LIMIT for text in BOMBS.values())


def _try_to_read(text: str) -> None:
    with suppress(OffsetMapError):
        OffsetMap.decode(text, 7)


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text[2:] + "=" * (-len(text[2:]) % 4))


def _position_of(text: str) -> int:
    packed, number = _unpacked(text)[5:], 0
    for index, byte in enumerate(packed):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            break
    return number
