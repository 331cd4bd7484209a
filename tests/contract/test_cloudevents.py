"""Our headers are CloudEvents 1.0: the CloudEvents library reads back what we wrote."""

from datetime import UTC, datetime, timezone
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from cloudevents.core.exceptions import CloudEventValidationError
from hypothesis import given
from hypothesis import strategies as st

from schemas.cloudevents import NOTIFICATION_TYPE, message_headers, result_type, valid_traceparent
from schemas.examples import example_result
from schemas.outbound import Outcome
from tests.contract.payloads import identifiers, moments, offsets

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW = datetime(2026, 3, 2, 7, 55, 9, 250_000, tzinfo=UTC)


def headers(**changes: Any) -> dict[str, bytes]:
    usual: dict[str, Any] = {
        "id": "i",
        "type": NOTIFICATION_TYPE,
        "source": "/moorage/lab",
        "subject": "1841",
        "time": NOW,
    }
    pairs = message_headers(**(usual | changes))
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_these_are_the_headers() -> None:
    assert headers(traceparent=TRACEPARENT) == {
        "ce_specversion": b"1.0",
        "ce_id": b"i",
        "ce_source": b"/moorage/lab",
        "ce_type": b"io.moorage.notification.v1",
        "ce_subject": b"1841",
        "ce_time": b"2026-03-02T07:55:09.250000Z",
        "content-type": b"application/json",
        "traceparent": TRACEPARENT.encode(),
    }


def test_each_outcome_has_its_own_type() -> None:
    assert result_type(Outcome.PROVISIONED) == "io.moorage.result.provisioned.v1"
    assert len({result_type(outcome) for outcome in Outcome}) == len(Outcome)


@given(id=identifiers, subject=identifiers, moment=moments, offset=offsets, outcome=st.sampled_from(Outcome))
def test_the_cloudevents_library_reads_our_message_back(
    id: str,  # noqa: A002 - CloudEvents' own name
    subject: str,
    moment: datetime,
    offset: timezone,
    outcome: Outcome,
) -> None:
    written = headers(id=id, subject=subject, type=result_type(outcome), time=moment.astimezone(offset))
    event = from_binary_event(KafkaMessage(written, subject.encode(), example_result().to_bytes()))
    data = event.get_data()
    assert (event.get_specversion(), event.get_id(), event.get_subject()) == ("1.0", id, subject)
    assert (event.get_type(), event.get_source(), event.get_time()) == (result_type(outcome), "/moorage/lab", moment)
    assert event.get_datacontenttype() == "application/json"
    assert isinstance(data, dict)
    assert data["id"] == example_result().id


@pytest.mark.parametrize("value", [TRACEPARENT, TRACEPARENT.encode(), "cc" + TRACEPARENT[2:]])
def test_a_valid_traceparent_is_passed_on(value: str | bytes) -> None:
    text = value if isinstance(value, str) else value.decode()
    assert (valid_traceparent(value), headers(traceparent=value)["traceparent"]) == (text, text.encode())


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        b"\xff\xfe",
        "ff" + TRACEPARENT[2:],
        TRACEPARENT.upper(),
        TRACEPARENT + "\n",
        TRACEPARENT + "-00",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_a_broken_traceparent_is_left_out(value: str | bytes | None) -> None:
    assert "traceparent" not in headers(traceparent=value)


@pytest.mark.parametrize(
    "wrong", [{"id": ""}, {"type": ""}, {"source": ""}, {"subject": ""}, {"time": datetime(2026, 3, 2)}]
)
def test_what_cloudevents_forbids_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CloudEventValidationError):
        headers(**wrong)
