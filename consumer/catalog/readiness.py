"""`ready` of a template: what must answer before a user is told that the environment is there. No I/O here."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, model_validator

from consumer.catalog import fields
from consumer.catalog.environment import Readiness
from consumer.catalog.fields import Section, problem
from consumer.catalog.ports import parse_port
from consumer.catalog.wording import quoted

_PATH = re.compile(r"/[!-~]{0,1000}")


def _port(value: Any) -> int:
    return fields.read(parse_port, fields.text(value))


def _path(value: Any) -> str:
    path = fields.text(value)
    if not _PATH.fullmatch(path):
        raise problem(f'{quoted(path)} is not a path: write one like "/health"')
    return path


class ReadySection(Section):
    """`http` with a `path`, or `tcp`: a port that must answer; and whether the image's own `health` check counts."""

    http: Annotated[int | None, PlainValidator(_port)] = None
    path: Annotated[str, PlainValidator(_path)] = "/"
    tcp: Annotated[int | None, PlainValidator(_port)] = None
    health: bool = True
    within: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 60.0

    @model_validator(mode="after")
    def _one_probe(self) -> Self:
        if self.http is not None and self.tcp is not None:
            raise problem("is given beside http: keep one of the two, a page that answers is a connection too", "tcp")
        if "path" in self.model_fields_set and self.http is None:
            raise problem("is given without http: say on which port the page is", "path")
        return self

    @property
    def probe(self) -> tuple[Literal["http", "tcp"], int] | None:
        """The key that names the port, and the port."""
        if self.http is not None:
            return "http", self.http
        return ("tcp", self.tcp) if self.tcp is not None else None

    def readiness(self) -> Readiness:
        path = self.path if self.http is not None else None
        return Readiness(self.http or self.tcp, path, self.health, self.within)
