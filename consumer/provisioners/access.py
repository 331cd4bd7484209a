"""How a user gets in, built the same way for every runtime. No I/O here."""

import re
from collections.abc import Iterable, Mapping

from consumer.catalog.environment import AccessHints
from consumer.catalog.identity import HTTP_PORT, SSH_PORT, SSH_USER
from schemas.outbound import Access, AccessPort

_WILDCARDS = frozenset({"", "0.0.0.0", "::", "[::]"})  # noqa: S104 - recognised here, never bound
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")


def reachable_host(bind_host: str, public_host: str | None) -> str:
    """The host users are told: the public one if configured, else where ports are bound, else `localhost`."""
    return public_host or ("localhost" if bind_host in _WILDCARDS else bind_host)


def hints_of(labels: Mapping[str, str]) -> AccessHints:
    """The access hints that `environment_labels` wrote; a label that is no port number counts as absent."""
    return AccessHints(
        http_port=_number(labels.get(HTTP_PORT)),
        ssh_port=_number(labels.get(SSH_PORT)),
        ssh_user=labels.get(SSH_USER),
    )


def build_access(host: str, ports: Iterable[AccessPort], hints: AccessHints) -> Access:
    """Every port that answers on `host`, and a URL and an ssh line for those that mean something to a person."""
    published = tuple(sorted(ports, key=lambda port: (port.port, port.protocol)))
    tcp = {port.port: port.host_port for port in published if port.protocol == "tcp"}
    http = tcp.get(hints.http_port) if hints.http_port is not None else None
    ssh = tcp.get(hints.ssh_port) if hints.ssh_port is not None else None
    return Access(
        host=host,
        ports=published,
        url=None if http is None else f"http://{_in_url(host)}:{http}",
        ssh=None if ssh is None else f"ssh -p {ssh} {_login(hints.ssh_user)}{host}",
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _login(user: str | None) -> str:
    # The line is pasted into a shell: a name that could be read as an option or a command is left out.
    return f"{user}@" if user is not None and _LOGIN.fullmatch(user) else ""


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None
