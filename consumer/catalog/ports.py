"""Ports as people write them: `8080:80, 53/udp` as Docker does (host first), or a JSON list of objects.

A host port is a wish: every user of a course may type `8080:80`, and only one of them could have it. It is honoured
inside the range that the template offers; `place_host_ports` says what happens outside.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from consumer.catalog.environment import Port, Protocol
from consumer.catalog.errors import Refused
from consumer.catalog.jsontext import looks_like_json, read_json
from consumer.catalog.wording import did_you_mean, quoted

MAX_PORTS = 16
MAX_PORTS_LENGTH = 4096

_ADVICE = 'Write "8080:80, 53/udp" (host port first) or a JSON list of {"container_port": 80}.'
_ENTRY = re.compile(r"(?:(?P<host>[0-9]+)\s*:\s*)?(?P<container>[0-9]+)(?:\s*/\s*(?P<protocol>[a-zA-Z]+))?")
_SEPARATOR = re.compile(r"[,;\n]")
_KEYS = {
    "containerport": "container",
    "container": "container",
    "hostport": "host",
    "host": "host",
    "serviceport": "service",
    "service": "service",
    "protocol": "protocol",
}


@dataclass(frozen=True, slots=True)
class PortRange:
    """The host ports `first` to `last`, both included."""

    first: int
    last: int

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def parse_port(value: object) -> int:
    """A port number from its text. Raises `Refused("ports_invalid")`."""
    text = value.strip() if isinstance(value, str) else ""
    # The length comes first: int() of a megabyte of digits is not free, and "²" is a digit to str.isdigit().
    if not (0 < len(text) <= 5 and text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise _invalid(f"{quoted(text)} is not a port number between 1 and 65535.")
    return int(text)


def parse_range(text: str) -> PortRange:
    """`30000-30999` or a single port. Raises `Refused("ports_invalid")`."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    found = PortRange(parse_port(first), parse_port(last if dash else first))
    if found.first > found.last:
        raise _invalid(f"{quoted(text)} runs backwards: write the lower port first.")
    return found


def parse_ports(text: str) -> tuple[Port, ...]:
    """The ports that `text` lists, in order. Raises `Refused("ports_invalid")`."""
    if len(text) > MAX_PORTS_LENGTH:
        raise _invalid(f"the list is longer than {MAX_PORTS_LENGTH} characters.")
    if not looks_like_json(text):
        return ports_from(entry for entry in _SEPARATOR.split(text) if entry.strip())
    try:
        document = read_json(text)
    except ValueError as error:
        raise _invalid(f"{error}. {_ADVICE}") from None
    return ports_from([document] if isinstance(document, dict) else document)


def ports_from(entries: Iterable[object]) -> tuple[Port, ...]:
    """Each entry a text (`8080:80/tcp`) or a mapping (`container_port`, ...). Raises `Refused("ports_invalid")`."""
    return check_ports(tuple(_from_mapping(e) if isinstance(e, Mapping) else _from_text(e) for e in entries))


def check_ports(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    """`ports` when they are few enough and none claims what another has. Raises `Refused("ports_invalid")`."""
    if len(ports) > MAX_PORTS:
        raise _invalid(f"{len(ports)} are too many: at most {MAX_PORTS}.")
    seen: set[tuple[str, int, str]] = set()
    for port in ports:
        service = port.service if port.service is not None else port.container
        for kind, number in (("container", port.container), ("host", port.host), ("service", service)):
            if number is None:
                continue
            if (kind, number, port.protocol) in seen:
                raise _invalid(f"{kind} port {number}/{port.protocol} is listed twice: list it once.")
            seen.add((kind, number, port.protocol))
    return ports


def place_host_ports(
    ports: tuple[Port, ...], offered: PortRange | None, outside: Literal["allocate", "refuse"]
) -> tuple[Port, ...]:
    """`ports` with the host ports that users may have; the others are left for the runtime to allocate, or refused.

    Raises `Refused("host_port_not_allowed")` only when `outside` is `refuse`.
    """
    placed = []
    for port in ports:
        if port.host is None or (offered is not None and port.host in offered):
            placed.append(port)
        elif outside == "allocate":
            placed.append(replace(port, host=None))
        else:
            choice = f"choose one of {offered}, or leave it out" if offered else "leave it out"
            raise Refused("host_port_not_allowed", f"Host port {port.host} is not offered: {choice}.")
    return tuple(placed)


def merge_ports(own: tuple[Port, ...], asked: tuple[Port, ...]) -> tuple[Port, ...]:
    """The template's ports and the user's, sorted. Asked for again, a port keeps what the user left open.

    Raises `Refused("ports_invalid")` when together they are too many or clash.
    """
    merged = {(port.container, port.protocol): port for port in own}
    for port in asked:
        mine = merged.get((port.container, port.protocol), port)
        host = mine.host if port.host is None else port.host
        service = mine.service if port.service is None else port.service
        merged[port.container, port.protocol] = replace(port, host=host, service=service)
    return check_ports(tuple(merged[key] for key in sorted(merged)))


def _from_text(entry: object) -> Port:
    if not isinstance(entry, str):
        raise _invalid(f"an entry is neither a text nor an object. {_ADVICE}")
    found = _ENTRY.fullmatch(entry.strip())
    if found is None:
        raise _invalid(f"{quoted(entry.strip())} is not a port. {_ADVICE}")
    host = None if found["host"] is None else parse_port(found["host"])
    return Port(parse_port(found["container"]), host=host, protocol=_protocol(found["protocol"] or "tcp"))


def _from_mapping(entry: Mapping[Any, Any]) -> Port:
    fields: dict[str, Any] = {}
    for key, value in entry.items():
        name = _KEYS.get(str(key)[:32].replace("_", "").replace("-", "").lower())
        if name is None:
            known = ("container_port", "host_port", "service_port", "protocol")
            raise _invalid(f"{quoted(str(key))} is not a field of a port{did_you_mean(str(key), known)}")
        if name in fields:
            raise _invalid(f"a port has two values for {quoted(str(key))}: keep one.")
        if value is not None:
            fields[name] = value
    if "container" not in fields:
        raise _invalid(f"an entry has no container_port. {_ADVICE}")
    return Port(
        container=parse_port(fields["container"]),
        host=parse_port(fields["host"]) if "host" in fields else None,
        service=parse_port(fields["service"]) if "service" in fields else None,
        protocol=_protocol(fields.get("protocol", "tcp")),
    )


def _protocol(value: object) -> Protocol:
    for protocol in get_args(Protocol):
        if isinstance(value, str) and value.strip().lower() == protocol:
            return protocol  # type: ignore[no-any-return]  # get_args forgets that these are the literals
    raise _invalid(f"{quoted(str(value))} is not a protocol: write tcp or udp.")


def _invalid(problem: str) -> Refused:
    return Refused("ports_invalid", f"Ports: {problem}")
