"""The contract as documents for others: JSON Schema for each message, AsyncAPI for the topics."""

import json
from typing import Any

from pydantic import BaseModel

from schemas.asyncapi import asyncapi
from schemas.json_schema import DIALECT, json_schema
from schemas.outbound import Notification, ProgressReport, Result
from schemas.platform import BatchMessage, FlatMessage, PingMessage, ReservationMessage, ResourceMessage
from schemas.state import ReservationState

MODELS: dict[str, type[BaseModel]] = {
    "inbound-flat": FlatMessage,
    "inbound-batch": BatchMessage,
    "inbound-reservation": ReservationMessage,
    "inbound-resource": ResourceMessage,
    "inbound-ping": PingMessage,
    "result": Result,
    "notification": Notification,
    "progress": ProgressReport,
    "reservation-state": ReservationState,
}


def documents() -> dict[str, str]:
    """File name to text: `<name>.schema.json` (JSON Schema 2020-12) for each of `MODELS`, and `asyncapi.json`.

    The same code gives the same text, to the byte.
    """
    schemas = {f"{name}.schema.json": _text(_json_schema(name, model)) for name, model in MODELS.items()}
    return schemas | {"asyncapi.json": _text(asyncapi())}


def _json_schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    return {"$schema": DIALECT, "$id": f"urn:moorage:schema:{name}", **json_schema(model)}


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
