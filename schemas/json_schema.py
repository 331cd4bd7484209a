"""JSON Schema 2020-12 of our models, as short as it can be said."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

DIALECT = GenerateJsonSchema.schema_dialect


class _Untitled(GenerateJsonSchema):
    """Without the titles pydantic makes of field names, which say the name once more."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of one message, self-contained."""
    return model.model_json_schema(by_alias=True, schema_generator=_Untitled)


def definitions(models: Iterable[type[BaseModel]], ref_template: str) -> dict[str, Any]:
    """The schemas of `models` and of all they are made of, by name, referring to each other by `ref_template`."""
    _, schema = models_json_schema(
        [(model, "validation") for model in models],
        by_alias=True,
        ref_template=ref_template,
        schema_generator=_Untitled,
    )
    found: dict[str, Any] = schema["$defs"]
    return found
