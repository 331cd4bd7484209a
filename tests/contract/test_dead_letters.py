"""A dead letter gives back the record to the byte, and says where it came from in two dialects."""

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.deadletter import DeadLetter, Header, dead_letter_headers, original_of, parse_dead_letter
from tests.contract.payloads import moments

FAILED_AT = datetime(2026, 3, 2, 8, 0, 1, 500_000, tzinfo=UTC)
LETTER = DeadLetter(
    topic="reservations",
    partition=3,
    offset=42,
    timestamp_ms=1_772_438_107_563,
    key=b"1841",
    value=b"{",
    headers=(("traceparent", b"00-x"), ("x", b"1"), ("x", b"2"), ("empty", None)),
    error_code="not_json",
    error_message="The record is not JSON.",
    instance="lab",
    failed_at=FAILED_AT,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
octets = st.none() | st.binary(max_size=40)
foreign = st.tuples(text, octets).filter(lambda header: not header[0].startswith(("moorage-dlt-", "kafka_dlt-")))
letters = st.builds(
    DeadLetter,
    topic=st.text("abc.-_9", min_size=1, max_size=20),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(0, 2**63 - 1),
    key=octets,
    value=octets,
    headers=st.lists(foreign, max_size=5).map(tuple),
    error_code=text,
    error_message=text,
    instance=text,
    failed_at=moments,
    timestamp_type=st.sampled_from([0, 1]),
)


def written(letter: DeadLetter, **changes: Any) -> list[Header]:
    fields: dict[str, Any] = {name: getattr(letter, name) for name in DeadLetter.__slots__}
    del fields["key"], fields["value"]
    return dead_letter_headers(**(fields | changes))


@given(letter=letters)
def test_a_dead_letter_reads_back_the_same(letter: DeadLetter) -> None:
    assert parse_dead_letter(letter.key, letter.value, written(letter)) == letter


@given(letter=letters, again=letters)
def test_a_record_dead_lettered_twice_carries_the_last_reason_once(letter: DeadLetter, again: DeadLetter) -> None:
    twice = written(again, headers=written(letter))
    assert twice == written(again, headers=letter.headers)
    assert original_of(twice) == letter.headers


def test_our_headers_are_text_and_springs_are_as_spring_writes_them() -> None:
    assert written(LETTER)[len(LETTER.headers) :] == [
        ("moorage-dlt-original-topic", b"reservations"),
        ("moorage-dlt-original-partition", b"3"),
        ("moorage-dlt-original-offset", b"42"),
        ("moorage-dlt-original-timestamp", b"1772438107563"),
        ("moorage-dlt-original-timestamp-type", b"CreateTime"),
        ("moorage-dlt-error-code", b"not_json"),
        ("moorage-dlt-error-message", b"The record is not JSON."),
        ("moorage-dlt-instance", b"lab"),
        ("moorage-dlt-failed-at", b"2026-03-02T08:00:01.500000Z"),
        ("kafka_dlt-original-topic", b"reservations"),
        ("kafka_dlt-original-partition", struct.pack(">i", 3)),
        ("kafka_dlt-original-offset", struct.pack(">q", 42)),
        ("kafka_dlt-original-timestamp", struct.pack(">q", 1_772_438_107_563)),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-exception-fqcn", b"io.moorage.not_json"),
        ("kafka_dlt-exception-message", b"The record is not JSON."),
    ]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"timestamp_type": 1}, b"LogAppendTime"),
        ({"timestamp_ms": -1}, b"NoTimestampType"),
        ({"timestamp_type": -1}, b"NoTimestampType"),
    ],
)
def test_the_kind_of_timestamp_is_named_as_kafka_names_it(changes: dict[str, int], name: bytes) -> None:
    assert dict(written(LETTER, **changes))["kafka_dlt-original-timestamp-type"] == name


def test_a_long_error_message_is_cut() -> None:
    found = dict(written(LETTER, error_message="ä" * 501))
    assert (found["moorage-dlt-error-message"] or b"").decode() == "ä" * 499 + "…"
    assert found["kafka_dlt-exception-message"] == found["moorage-dlt-error-message"]


def test_text_that_utf_8_cannot_hold_does_not_stop_a_dead_letter() -> None:
    assert dict(written(LETTER, error_message="\ud800"))["moorage-dlt-error-message"] == b"?"


def test_a_dead_letter_of_spring_is_read() -> None:
    headers: list[Header] = [
        ("x", b"1"),
        ("kafka_dlt-original-topic", b"reservations"),
        ("kafka_dlt-original-partition", struct.pack(">i", 3)),
        ("kafka_dlt-original-offset", struct.pack(">q", 42)),
        ("kafka_dlt-original-timestamp-type", b"LogAppendTime"),
        ("kafka_dlt-original-consumer-group", b"listeners"),
        ("kafka_dlt-exception-fqcn", b"java.lang.IllegalStateException"),
        ("kafka_dlt-exception-message", b"no"),
        ("kafka_dlt-exception-stacktrace", b"at ..."),
    ]
    assert parse_dead_letter(b"k", b"v", headers) == DeadLetter(
        topic="reservations",
        partition=3,
        offset=42,
        timestamp_ms=-1,
        key=b"k",
        value=b"v",
        headers=(("x", b"1"),),
        error_code="java.lang.IllegalStateException",
        error_message="no",
        instance="",
        failed_at=None,
        timestamp_type=1,
    )


def test_a_failure_of_unknown_time_is_still_a_dead_letter() -> None:
    headers = [header for header in written(LETTER) if header[0] != "moorage-dlt-failed-at"]
    assert parse_dead_letter(None, None, headers).failed_at is None


@pytest.mark.parametrize("name", ["topic", "partition", "offset"])
def test_a_record_that_does_not_say_where_it_came_from_is_no_dead_letter(name: str) -> None:
    headers = [header for header in written(LETTER) if not header[0].endswith(f"original-{name}")]
    with pytest.raises(ValueError, match=f"moorage-dlt-original-{name}"):
        parse_dead_letter(b"k", b"v", headers)


@pytest.mark.parametrize(
    "value", [b"", b"three", b"--3", b"3.0", b"9" * 21, b"2147483648", b"-2147483649", b"\xd9\xa3"]
)
def test_a_broken_number_is_an_error_that_names_its_header(value: bytes) -> None:
    broken = [*written(LETTER), ("moorage-dlt-original-partition", value)]
    with pytest.raises(ValueError, match="moorage-dlt-original-partition"):
        parse_dead_letter(b"k", b"v", broken)


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(["moorage-dlt-", "kafka_dlt-"]).flatmap(
                lambda ours: st.sampled_from(
                    ["original-topic", "original-partition", "original-offset", "original-timestamp", "failed-at"]
                ).map(ours.__add__)
            ),
            octets,
        ),
        max_size=10,
    )
)
def test_any_headers_are_a_dead_letter_or_a_value_error(headers: list[Header]) -> None:
    try:
        letter = parse_dead_letter(None, None, headers)
    except ValueError:
        return
    assert letter.topic


def test_a_failure_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        written(LETTER, failed_at=datetime(2026, 3, 2))
