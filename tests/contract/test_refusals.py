"""What cannot be read ends in a DecodeError that tells an operator enough, and nobody too much."""

import json
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.events import InboundEvent, Ping, ReservationEvent, ResourceEvent
from schemas.examples import sample, sample_document
from schemas.inbound import MAX_BYTES, MESSAGE_LIMIT, DecodeError, decode
from tests.contract.payloads import changed, flat, json_values, read, refusal, refusal_of

CODES = {"too_large", "empty", "not_json", "not_an_object", "unknown_event_type", "invalid_field"}
SAMPLES = ["event_start", "event_end", "event_updated", "event_deleted", "batch_start", "resource_deleted", "ping"]


@pytest.mark.parametrize("raw", [None, b"", b" \r\n\t "])
def test_a_record_without_a_value_is_empty(raw: bytes | None) -> None:
    assert refusal(raw).code == "empty"


def test_a_record_above_the_limit_is_not_even_looked_at() -> None:
    error = refusal(b"{" * (MAX_BYTES + 1))
    assert (error.code, str(MAX_BYTES) in error.message) == ("too_large", True)


def test_a_record_at_the_limit_is_read() -> None:
    raw = sample("ping")
    assert decode(raw, max_bytes=len(raw)) == decode(raw)
    assert refusal(raw, max_bytes=len(raw) - 1).code == "too_large"


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"eventType": "ALL", "timestamp": "\xc3\x28"}',
        rb'{"eventType": "\ud800"}',
        b'{"eventType": "\xed\xa0\x80"}',
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": 01}',
        b'{"x": 1} {}',
        b'{"x": "\x00"}',
        b"[" * 100_000,
        b'{"x":' * 20_000,
        b'{"x": ' + b"9" * 5_000 + b"}",
        b"eventType=ALL",
    ],
)
def test_bytes_that_are_no_json_are_refused(raw: bytes) -> None:
    assert refusal(raw).code == "not_json"


def test_nesting_is_refused_however_little_stack_is_left() -> None:
    def deep(levels: int) -> DecodeError:
        return (
            deep(levels - 1) if levels else refusal(b'{"eventType":"EVENT_START","x":' + b"[" * 150 + b"]" * 150 + b"}")
        )

    assert deep(sys.getrecursionlimit() - 250).code == "invalid_field"


@pytest.mark.parametrize("raw", [b"null", b"[]", b"7", b'"EVENT_START"', b"true"])
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    assert refusal(raw).code == "not_an_object"


@pytest.mark.parametrize("kind", ["EVENT_MOVED", "", "event_start", "PING", "EVENT_START ", "EVENT_START\0"])
def test_an_event_type_nobody_knows_is_refused(kind: str) -> None:
    assert refusal_of(flat(eventType=kind)).code == "unknown_event_type"


def test_a_new_event_type_is_named_but_not_what_only_poses_as_one() -> None:
    assert "EVENT_MOVED" in refusal_of(flat(eventType="EVENT_MOVED")).message
    assert "hunter2" not in refusal_of(flat(eventType="hunter2")).message


@pytest.mark.parametrize("kind", [..., None, 7, ["EVENT_START"], {}])
def test_an_event_type_that_is_no_text_is_an_invalid_field(kind: Any) -> None:
    error = refusal_of(flat(eventType=kind))
    assert (error.code, "`eventType`" in error.message) == ("invalid_field", True)


NO_IDS: list[Any] = [
    ...,
    None,
    True,
    1.5,
    7.0,
    -1,
    10**128,
    "",
    " ",
    " 7",
    "7\n",
    "a\0b",
    "a\x1bb",
    "a\u2028b",
    "a\u200bb",
    "x" * 129,
    [],
    {},
]


@pytest.mark.parametrize("value", NO_IDS)
@pytest.mark.parametrize("field", ["eventId", "userId", "resourceId"])
def test_an_id_that_is_none_is_refused(field: str, value: Any) -> None:
    error = refusal_of(flat(**{field: value}))
    assert (error.code, f"`{field}`" in error.message) == ("invalid_field", True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"eventTitle": "x" * 1_001}, "eventTitle"),
        ({"resourceName": "a\0"}, "resourceName"),
        ({"username": 7}, "username"),
        ({"sshPublicKey": "x" * 16_385}, "sshPublicKey"),
        ({"timestamp": ...}, "timestamp"),
        ({"timestamp": 1_772_438_400}, "timestamp"),
        ({"eventStart": "tomorrow"}, "eventStart"),
        ({"eventEnd": "2026-02-30T08:00:00Z"}, "eventEnd"),
        ({"eventEnd": "2026-03-02T08:00:00Z"}, "eventEnd"),
        ({"eventEnd": "2026-03-02T07:59:59.999999Z"}, "eventEnd"),
        ({"eventEnd": None}, "eventEnd"),
        ({"siteId": False}, "siteId"),
        ({"events": {}}, "events"),
        ({"events": "none"}, "events"),
        ({"events": []}, "events"),
        ({"events": [7]}, "events[0]"),
        ({"events": [{}]}, "events[0].eventId"),
        ({"events": [{}] * 501}, "events"),
    ],
)
def test_a_field_that_is_wrong_is_named(changes: dict[str, Any], field: str) -> None:
    error = refusal_of(flat(**changes))
    assert (error.code, f"`{field}`" in error.message) == ("invalid_field", True)


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("event_updated", {"end": "2026-03-02T08:00:00Z"}, "data.end"),
        ("event_updated", {"keycloakId": ...}, "data.keycloakId"),
        ("event_updated", {"updatedAt": "yesterday"}, "data.updatedAt"),
        ("event_deleted", {"resource": ...}, "data.resource"),
        ("event_deleted", {"resource": []}, "data.resource"),
        ("event_deleted", {"resource": {}}, "data.resource.id"),
        ("resource_deleted", {"id": True}, "data.id"),
        ("resource_deleted", {"type": "Linux container"}, "data.type"),
    ],
)
def test_a_wrong_field_in_an_envelope_is_named_by_its_path(name: str, changes: dict[str, Any], field: str) -> None:
    envelope = sample_document(name)
    error = refusal_of(changed(envelope, {"data": changed(envelope["data"], changes)}))
    assert (error.code, f"`{field}`" in error.message) == ("invalid_field", True)


@pytest.mark.parametrize("kind", ["RESOURCE_", "RESOURCE_deleted", "RESOURCE_X\n", "RESOURCE_" + "X" * 41])
def test_a_resource_event_must_be_named_like_one(kind: str) -> None:
    error = refusal_of(changed(sample_document("resource_deleted"), {"eventType": kind}))
    assert (error.code, "`eventType`" in error.message) == ("invalid_field", True)


@pytest.mark.parametrize(
    "parameters",
    [
        "image=nginx",
        "[]",
        "7",
        "true",
        7,
        ["image"],
        '{"image": ["nginx"]}',
        {"image": {"name": "nginx"}},
        '{"size": 1e400}',
        '{"size": NaN}',
        {"image": "nginx\0"},
        {"image\0": "nginx"},
        {"x" * 201: "1"},
        {"image": "x" * 8_193},
        {"a" + str(number): "1" for number in range(101)},
        "[" * 10_000,
        '{"size": ' + "9" * 5_000 + "}",
        "\ud800",
    ],
)
def test_parameters_that_are_no_labels_and_values_are_refused(parameters: Any) -> None:
    error = refusal_of(flat(customParameters=parameters))
    assert error.code in {"invalid_field", "not_json"}


def test_the_label_of_a_wrong_parameter_is_named_but_not_its_value() -> None:
    message = refusal_of(flat(customParameters={"Root password": ["hunter2"]})).message
    assert ("'Root password'" in message, "hunter2" in message) == (True, False)


def test_a_hundred_parameters_and_five_hundred_reservations_are_allowed() -> None:
    batch = sample_document("batch_start")
    parameters = {f"label {number}": "x" for number in range(100)}
    booking = batch["events"][0] | {"customParameters": parameters}
    assert len(read(changed(batch, {"events": [booking] + batch["events"][1:] * 499}))) == 500


def test_one_wrong_reservation_refuses_its_whole_batch() -> None:
    batch = sample_document("batch_start")
    wrong = changed(batch["events"][1], {"eventStart": "soon"})
    assert "`events[1].eventStart`" in refusal_of(changed(batch, {"events": [batch["events"][0], wrong]})).message


def test_the_error_says_how_much_more_is_wrong() -> None:
    assert "(and 2 more)" in refusal_of(flat(eventId=..., userId=True, eventTitle=7)).message


def test_no_secret_reaches_the_error_or_what_it_was_raised_from() -> None:
    error = refusal_of(flat(userId="hunter2 ", email="hunter2\0", eventTitle="hunter2" * 200, eventEnd="hunter2"))
    assert "hunter2" not in f"{error} {error.message} {error.__cause__} {error.__context__}"


def test_a_message_is_never_longer_than_promised() -> None:
    error = DecodeError("not_json", "x" * 10_000)
    assert (len(error.message), error.message[-1]) == (MESSAGE_LIMIT, "…")


def assert_read_or_refused(raw: bytes) -> None:
    refused: DecodeError | None = None
    events: tuple[InboundEvent, ...] = ()
    try:
        events = decode(raw)
    except DecodeError as error:
        refused = error
    if refused is None:
        assert events
        assert all(isinstance(event, ReservationEvent | ResourceEvent | Ping) for event in events)
    else:
        assert refused.code in CODES
        assert 0 < len(refused.message) <= MESSAGE_LIMIT


@settings(max_examples=300)
@given(raw=st.binary(max_size=400))
@example(raw=b'{"eventType":"ALL","timestamp":"2026-03-02T07:00:00Z"}')
def test_any_bytes_end_in_events_or_in_a_decode_error(raw: bytes) -> None:
    assert_read_or_refused(raw)


@settings(max_examples=300)
@given(document=json_values)
def test_any_json_ends_in_events_or_in_a_decode_error(document: Any) -> None:
    assert_read_or_refused(json.dumps(document).encode())


@settings(max_examples=300)
@given(name=st.sampled_from(SAMPLES), data=st.data())
def test_a_sample_with_any_field_replaced_is_read_or_refused(name: str, data: st.DataObject) -> None:
    document = sample_document(name)
    part = document["data"] if "data" in document and data.draw(st.booleans()) else document
    field = data.draw(st.sampled_from(sorted(part)))
    part[field] = data.draw(json_values)
    assert_read_or_refused(json.dumps(document).encode())


@settings(max_examples=300)
@given(name=st.sampled_from(SAMPLES), cut=st.floats(0, 1), byte=st.integers(0, 255), drop=st.booleans())
def test_a_sample_with_a_broken_byte_is_read_or_refused(name: str, cut: float, byte: int, drop: bool) -> None:
    raw = sample(name)
    at = int(cut * (len(raw) - 1))
    assert_read_or_refused(raw[:at] if drop else raw[:at] + bytes([byte]) + raw[at + 1 :])
