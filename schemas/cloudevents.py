"""CloudEvents 1.0 in binary mode on Kafka: the event's attributes are headers, the value is the data alone."""

import re
from datetime import UTC, datetime
from typing import Any

from cloudevents.core.bindings.kafka import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from schemas.outbound import Outcome

NOTIFICATION_TYPE = "io.moorage.notification.v1"
PROGRESS_TYPE = "io.moorage.progress.v1"
CONTENT_TYPE = "application/json"

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_FORMAT = JSONFormat()


def result_type(outcome: Outcome) -> str:
    """The `ce_type` of a result: `io.moorage.result.<outcome>.v1`."""
    return f"io.moorage.result.{outcome}.v1"


def message_headers(
    *,
    id: str,  # noqa: A002 - CloudEvents' own attribute names, so that a caller reads like the specification
    type: str,  # noqa: A002
    source: str,
    subject: str,
    time: datetime,
    traceparent: str | bytes | None = None,
) -> list[tuple[str, bytes]]:
    """The Kafka headers of one message whose value is JSON: `ce_*`, `content-type` and, when valid, `traceparent`.

    `time` must have a time zone; it is written in UTC. A `traceparent` that is not W3C Trace Context (level 1) is
    left out, since passing it on would break the reader's trace. Raises `CloudEventValidationError` for an empty
    attribute or a naive `time`.
    """
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": type,
        "subject": subject,
        "time": time if time.tzinfo is None else time.astimezone(UTC),
        "datacontenttype": CONTENT_TYPE,
    }
    headers = list(to_binary(CloudEvent(attributes), _FORMAT).headers.items())
    trace = valid_traceparent(traceparent)
    if trace:
        headers.append(("traceparent", trace.encode()))
    return headers


def valid_traceparent(value: str | bytes | None) -> str | None:
    """`value` as text when it is a W3C `traceparent`, else None: another's broken header is not our error."""
    if value is None:
        return None
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text if _TRACEPARENT.fullmatch(text) else None
