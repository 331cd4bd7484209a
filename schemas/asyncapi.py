"""The AsyncAPI 3.0 document: the topics, what lies on them, and which way it goes, seen from Moorage."""

from typing import Any

from pydantic import BaseModel

from schemas.cloudevents import CONTENT_TYPE, NOTIFICATION_TYPE, PROGRESS_TYPE, result_type
from schemas.examples import example_notification, example_progress, example_result, sample_document
from schemas.json_schema import definitions
from schemas.outbound import Notification, Outcome, ProgressReport, Result
from schemas.platform import BatchMessage, FlatMessage, PingMessage, ReservationMessage, ResourceMessage

_BINDING = "0.5.0"
_Object = dict[str, Any]

_INBOUND: dict[str, tuple[type[BaseModel], tuple[str, ...]]] = {
    "flat": (FlatMessage, ("event_start", "event_start_sparse", "event_end")),
    "batch": (BatchMessage, ("batch_start",)),
    "reservation": (ReservationMessage, ("event_updated", "event_deleted")),
    "resource": (ResourceMessage, ("resource_deleted",)),
    "ping": (PingMessage, ("ping",)),
}


def asyncapi() -> _Object:
    """The document as JSON-ready objects. Topic names are settings, so the addresses are parameters."""
    inbound = {name: _inbound_message(name) for name in _INBOUND}
    outbound = {"result": _result_message(), "notification": _notification_message(), "progress": _progress_message()}
    dead_letters = {"deadLetter": _dead_letter_message()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Moorage",
            "version": "1.0.0",
            "description": "Reservation events come in; results, notifications and dead letters go out.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {
            "reservations": _channel(
                "Events of the reservation platform; the key is the reservation id.",
                ("inboundTopic", "reservation-events", "MOORAGE_TOPICS"),
                inbound,
            ),
            "outcomes": _channel(
                "What became of each event; the key is the reservation id.",
                ("outboundTopic", "moorage-outbound", "MOORAGE_OUTBOUND_TOPIC"),
                outbound,
            ),
            "deadLetters": _channel(
                "Records that could not be handled, untouched.",
                ("deadLetterTopic", "moorage-dead-letters", "MOORAGE_DEAD_LETTER_TOPIC"),
                dead_letters,
            ),
        },
        "operations": {
            "handleEvent": _operation("receive", "reservations", "Handle what happened to a reservation.", inbound),
            "publishOutcome": _operation("send", "outcomes", "Tell machines and people what became of it.", outbound),
            "setAside": _operation("send", "deadLetters", "Set a record aside, to be replayed later.", dead_letters),
        },
        "components": {"messages": inbound | outbound | dead_letters, "schemas": _schemas()},
    }


def _channel(description: str, topic: tuple[str, str, str], messages: _Object) -> _Object:
    parameter, default, setting = topic
    return {
        "address": f"{{{parameter}}}",
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "parameters": {parameter: {"description": f"The topic's name: setting {setting}.", "default": default}},
        "bindings": {"kafka": {"bindingVersion": _BINDING}},
    }


def _operation(action: str, channel: str, summary: str, messages: _Object) -> _Object:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
        "bindings": {"kafka": {"bindingVersion": _BINDING}},
    }


def _inbound_message(name: str) -> _Object:
    model, samples = _INBOUND[name]
    return _message(model, {sample: sample_document(sample) for sample in samples})


def _result_message() -> _Object:
    example = example_result().model_dump(mode="json", by_alias=True, exclude_none=True)
    return _message(Result, {"provisioned": example}, _event_headers([result_type(outcome) for outcome in Outcome]))


def _notification_message() -> _Object:
    examples = {"ready": example_notification().model_dump(mode="json", by_alias=True)}
    return _message(Notification, examples, _event_headers([NOTIFICATION_TYPE]))


def _progress_message() -> _Object:
    example = example_progress().model_dump(mode="json", by_alias=True, exclude_none=True)
    return _message(ProgressReport, {"pulling": example}, _event_headers([PROGRESS_TYPE]))


def _message(model: type[BaseModel], examples: _Object, headers: _Object | None = None) -> _Object:
    message: _Object = {
        "name": model.__name__,
        "summary": (model.__doc__ or "").splitlines()[0],
        "contentType": CONTENT_TYPE,
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "bindings": _key("The reservation id."),
        "examples": [{"name": name, "payload": payload} for name, payload in examples.items()],
    }
    return message | ({"headers": headers} if headers else {})


def _dead_letter_message() -> _Object:
    return {
        "name": "DeadLetter",
        "summary": "A record as it came, to the byte, with headers that say where from and what was wrong.",
        "contentType": "application/octet-stream",
        "payload": {"description": "The original record's value, whatever it was."},
        "bindings": _key("The original record's key."),
        "headers": _dead_letter_headers(),
    }


def _key(description: str) -> _Object:
    return {"kafka": {"key": {"type": "string", "description": description}, "bindingVersion": _BINDING}}


def _event_headers(types: list[str]) -> _Object:
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "content-type"],
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_id": {"type": "string", "format": "uuid", "description": "The same for every repetition."},
            "ce_source": {"type": "string", "description": "`/moorage/<instance>`"},
            "ce_type": {"enum": types},
            "ce_subject": {"type": "string", "description": "The reservation id."},
            "ce_time": {"type": "string", "format": "date-time"},
            "content-type": {"const": CONTENT_TYPE},
            "traceparent": {"type": "string", "description": "W3C Trace Context of the event that led to this."},
        },
    }


def _dead_letter_headers() -> _Object:
    text = {
        "moorage-dlt-original-topic": "Where the record was consumed.",
        "moorage-dlt-original-partition": "Its partition, in decimal.",
        "moorage-dlt-original-offset": "Its offset, in decimal.",
        "moorage-dlt-original-timestamp": "Its timestamp: Unix milliseconds in decimal, -1 for none.",
        "moorage-dlt-original-timestamp-type": "CreateTime, LogAppendTime or NoTimestampType.",
        "moorage-dlt-error-code": "What was wrong, for machines.",
        "moorage-dlt-error-message": "What was wrong, for people, in at most 500 characters.",
        "moorage-dlt-instance": "The Moorage that gave up.",
        "moorage-dlt-failed-at": "When, as RFC 3339.",
        "kafka_dlt-original-topic": "As Spring Kafka writes it: UTF-8.",
        "kafka_dlt-original-partition": "As Spring Kafka writes it: 4 bytes, big-endian.",
        "kafka_dlt-original-offset": "As Spring Kafka writes it: 8 bytes, big-endian.",
        "kafka_dlt-original-timestamp": "As Spring Kafka writes it: 8 bytes, big-endian.",
        "kafka_dlt-original-timestamp-type": "As Spring Kafka writes it: UTF-8.",
        "kafka_dlt-exception-fqcn": "`io.moorage.` and the error code.",
        "kafka_dlt-exception-message": "The error message.",
    }
    properties = {name: {"type": "string", "description": description} for name, description in text.items()}
    return {"type": "object", "required": list(text), "properties": properties}


def _schemas() -> _Object:
    inbound = [model for model, _ in _INBOUND.values()]
    return definitions([*inbound, Result, Notification, ProgressReport], "#/components/schemas/{model}")
