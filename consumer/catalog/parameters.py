"""From the labels people typed to what they ask for, typed and within bounds of form; policy comes later.

Labels match whatever their case, spaces, dashes and underscores. Labels nobody claims are somebody else's and are
ignored, and so are empty values: a form field left blank asks for nothing.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from consumer.catalog.environment import RESERVED_VARIABLES, Port
from consumer.catalog.errors import Refused
from consumer.catalog.ports import parse_ports
from consumer.catalog.quantities import parse_bytes, parse_cpu
from consumer.catalog.variables import parse_environment
from consumer.catalog.wording import quoted

MAX_LABEL_LENGTH = 100

_IGNORED_IN_LABELS = re.compile(r"[\s_\-\u2010-\u2015]+")


class Parameter(StrEnum):
    """What a reservation may ask to have otherwise than its template says."""

    IMAGE = "image"
    CPU_LIMIT = "cpu_limit"
    MEMORY_LIMIT = "memory_limit"
    STORAGE_LIMIT = "storage_limit"
    PORTS = "ports"
    ENVIRONMENT = "environment"


DEFAULT_ALIASES: Mapping[Parameter, tuple[str, ...]] = MappingProxyType(
    {
        Parameter.IMAGE: ("image", "container image", "docker image"),
        Parameter.CPU_LIMIT: ("cpu limit", "cpu", "cpus"),
        Parameter.MEMORY_LIMIT: ("memory limit", "memory", "ram"),
        Parameter.STORAGE_LIMIT: ("storage limit", "storage", "disk"),
        # Not "port": on network gear that is the name of a socket.
        Parameter.PORTS: ("ports", "port mappings"),
        Parameter.ENVIRONMENT: ("environment", "environment variables", "env"),
    }
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a reservation asks for: millicores, bytes, ports, variables; None where it asks for nothing.

    `ignored` are the parameters that were asked for and that the template lets pass unheard.
    """

    image: str | None = None
    cpu_limit: int | None = None
    memory_limit: int | None = None
    storage_limit: int | None = None
    ports: tuple[Port, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[Parameter, ...] = ()


def normal_label(label: str) -> str:
    """`CPU limit`, `cpu-limit` and `CPU_LIMIT` are one label; empty when there is nothing to compare."""
    if len(label) > MAX_LABEL_LENGTH:
        return ""
    return _IGNORED_IN_LABELS.sub("", unicodedata.normalize("NFKC", label).casefold())


def alias_table(aliases: Mapping[Parameter, Sequence[str]] = DEFAULT_ALIASES) -> Mapping[str, Parameter]:
    """Normal label to parameter. A parameter without entry keeps its default labels.

    Raises ValueError, with a sentence for the operator, for a label that is empty or claimed twice.
    """
    table: dict[str, Parameter] = {}
    for parameter in Parameter:
        for label in aliases.get(parameter, DEFAULT_ALIASES[parameter]):
            normal = normal_label(label)
            if not normal:
                raise ValueError(f"the label {quoted(label)} of {parameter} is empty or over {MAX_LABEL_LENGTH} long")
            if table.setdefault(normal, parameter) is not parameter:
                raise ValueError(f"the label {quoted(label)} means both {table[normal]} and {parameter}: keep one")
    return MappingProxyType(table)


DEFAULT_ALIAS_TABLE = alias_table()


def parse_parameters(
    parameters: Mapping[str, str],
    *,
    aliases: Mapping[str, Parameter] = DEFAULT_ALIAS_TABLE,
    allowed: frozenset[Parameter] = frozenset(Parameter),
    on_disallowed: Literal["refuse", "ignore"] = "refuse",
) -> Overrides:
    """What `parameters` ask for. What is ignored is not read either: it cannot be wrong.

    Raises `Refused`: `override_not_allowed`, `parameter_ambiguous`, `quantity_invalid`, `ports_invalid`,
    `environment_invalid`. Variables that Moorage sets itself are left out: ours win.
    """
    found: dict[str, Any] = {}
    ignored: list[Parameter] = []
    for parameter, (label, text) in sorted(_collect(parameters, aliases).items()):
        if parameter in allowed:
            found[parameter.value] = _READERS[parameter](text)
        elif on_disallowed == "ignore":
            ignored.append(parameter)
        else:
            raise Refused(
                "override_not_allowed",
                f"{quoted(label)} cannot be chosen for this resource: book it again without that parameter.",
            )
    return Overrides(**found, ignored=tuple(ignored))


def _collect(parameters: Mapping[str, str], aliases: Mapping[str, Parameter]) -> dict[Parameter, tuple[str, str]]:
    found: dict[Parameter, tuple[str, str]] = {}
    for label, value in parameters.items():
        parameter = aliases.get(normal_label(label))
        text = value.strip()
        if parameter is None or not text:
            continue
        earlier, earlier_text = found.setdefault(parameter, (label, text))
        if earlier_text != text:
            raise Refused(
                "parameter_ambiguous",
                f"{quoted(earlier, 38)} and {quoted(label, 38)} mean the same and differ: keep one of them.",
            )
    return found


def _without_reserved(text: str) -> dict[str, str]:
    return {name: value for name, value in parse_environment(text).items() if name not in RESERVED_VARIABLES}


_READERS: Mapping[Parameter, Callable[[str], Any]] = MappingProxyType(
    {
        Parameter.IMAGE: str,
        Parameter.CPU_LIMIT: parse_cpu,
        Parameter.MEMORY_LIMIT: parse_bytes,
        Parameter.STORAGE_LIMIT: lambda text: parse_bytes(text, "Storage limit"),
        Parameter.PORTS: parse_ports,
        Parameter.ENVIRONMENT: _without_reserved,
    }
)
