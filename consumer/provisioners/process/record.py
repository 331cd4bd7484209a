"""What is written down about an environment, so that any later process recognises it. No I/O here."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from consumer.catalog.identity import KEY
from schemas.outbound import AccessPort


@dataclass(frozen=True, slots=True)
class Record:
    """One environment: its labels say what it is. `dying` is set for good once its removal has begun."""

    name: str
    labels: Mapping[str, str]
    image: str
    ports: tuple[AccessPort, ...] = ()
    dying: bool = False

    @property
    def key(self) -> str:
        return self.labels[KEY]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self) | {"ports": [port.model_dump() for port in self.ports]}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self | None:
        """None for what no record of ours looks like."""
        try:
            raw: dict[str, Any] = json.loads(data)
            record = cls(
                name=str(raw["name"]),
                labels={str(label): str(value) for label, value in raw["labels"].items()},
                image=str(raw["image"]),
                ports=tuple(AccessPort.model_validate(port) for port in raw["ports"]),
                dying=bool(raw["dying"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return record if KEY in record.labels else None


@dataclass(frozen=True, slots=True)
class Leader:
    """The supervisor of an environment: `mark` tells its process from a later one with the same pid."""

    pid: int
    mark: str

    @classmethod
    def from_json(cls, data: bytes) -> Self | None:
        """None for what no supervisor wrote."""
        try:
            raw: dict[str, Any] = json.loads(data)
            return cls(int(raw["pid"]), str(raw["mark"]))
        except (ValueError, KeyError, TypeError):
            return None
