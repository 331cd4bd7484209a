"""JSON that people pasted into a form field: read strictly, numbers kept as they were typed."""

import json
from typing import Any


def looks_like_json(text: str) -> bool:
    """Whether `text` can only be meant as a JSON list or object."""
    return text.lstrip()[:1] in ("[", "{")


def read_json(text: str) -> Any:
    """The document, with every number as its text; raises ValueError with a sentence fit for the user.

    Repeated keys are errors: which of the two was meant is a guess.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_int=str, parse_float=str, parse_constant=_no_constants)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in one JSON object")
    return found


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not a number that JSON knows")
