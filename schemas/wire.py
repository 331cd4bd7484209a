"""What every model on the wire has in common."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """A frozen message of ours: camelCase on the wire, unknown fields ignored so that readers outlive writers."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")

    def to_bytes(self) -> bytes:
        """Compact UTF-8 JSON; fields that are None are left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()
