"""Dead letters as the service writes them."""

import json
from datetime import UTC, datetime
from typing import Any

from schemas.deadletter import dead_letter_headers
from tests.support.kafka import Kafka, Message, Names

FAILED_AT = datetime(2026, 3, 2, 8, 0, 1, tzinfo=UTC)
STUB = json.dumps({"tooLarge": True, "bytes": 2_000_000, "sha256": "ab" * 32}).encode()


def letter(topic: str, value: bytes | None, key: bytes | None = None, **changes: Any) -> Message:
    """A dead letter of a record of `topic`."""
    partition = changes.pop("lies_in", None)
    facts: dict[str, Any] = {
        "topic": topic,
        "partition": 2,
        "offset": 7,
        "timestamp_ms": 1_772_438_107_563,
        "headers": (),
        "error_code": "not_json",
        "error_message": "The record is not JSON.",
        "instance": "lab",
        "failed_at": FAILED_AT,
    }
    return Message(value, key, tuple(dead_letter_headers(**facts | changes)), partition)


def put(topics: Kafka, names: Names, *letters: Message) -> list[str]:
    """Publish dead letters; returns their places as `dlq` names them."""
    # One by one: those published together are acknowledged in any order.
    placed = [message for each in letters for message in topics.publish(names.dead_letters, [each])]
    return [f"{message.partition}:{message.offset}" for message in placed]
