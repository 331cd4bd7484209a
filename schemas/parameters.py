"""`customParameters`: a JSON object of labels to values, which the platform sends as text inside the JSON."""

import math
import re
from typing import Any

from pydantic_core import from_json

PARAMETER_LIMIT = 100
LABEL_LIMIT = 200
VALUE_LIMIT = 8_192

_CONTROLS = re.compile(r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]")
_QUOTED_LABEL_LIMIT = 40

PARAMETER_SCHEMA: dict[str, Any] = {
    "description": "A JSON object as text, its values text; empty text means none. A plain object is read too.",
    "anyOf": [
        {"type": "string", "contentMediaType": "application/json"},
        {
            "type": "object",
            "maxProperties": PARAMETER_LIMIT,
            "propertyNames": {"maxLength": LABEL_LIMIT},
            "additionalProperties": {"type": ["string", "number", "boolean", "null"], "maxLength": VALUE_LIMIT},
        },
        {"type": "null"},
    ],
}


def read_parameters(value: Any) -> dict[str, str]:
    """The parameters in `value`: JSON as text, an object, or None; labels and text values are left unchanged.

    Numbers and booleans become their JSON text, a null value counts as not given. Raises `ValueError`, naming the
    label where it can and never the value, for anything else and beyond 100 parameters, labels of 200 characters
    and values of 8,192.
    """
    document = _document(value) if isinstance(value, str) else value
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ValueError("must hold a JSON object of labels to values")  # noqa: TRY004 - one error for all that is wrong
    if len(document) > PARAMETER_LIMIT:
        raise ValueError(f"has more than {PARAMETER_LIMIT} parameters")
    return {_label(label): _text(label, item) for label, item in document.items() if item is not None}


def _document(text: str) -> Any:
    if not text or text.isspace():
        return None
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"is text but not JSON ({error})") from error


def _label(label: str) -> str:
    if len(label) > LABEL_LIMIT or _CONTROLS.search(label):
        raise ValueError(f"has a label with control characters or more than {LABEL_LIMIT} characters")
    return label


def _text(label: str, value: Any) -> str:
    text = _scalar_text(value)
    if text is None:
        raise ValueError(f"must have text as the value of {_quoted(label)}")
    if len(text) > VALUE_LIMIT or _CONTROLS.search(text):
        raise ValueError(f"has control characters or more than {VALUE_LIMIT} characters in {_quoted(label)}")
    return text


def _scalar_text(value: Any) -> str | None:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return repr(value)
        case _:
            return None


def _quoted(label: str) -> str:
    return repr(label if len(label) <= _QUOTED_LABEL_LIMIT else f"{label[:_QUOTED_LABEL_LIMIT]}…")
