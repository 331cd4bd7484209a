"""The ports of an environment: bound by us and inherited by its program, so that nobody takes them in between."""

import errno
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from consumer.catalog.environment import Port
from consumer.handling.errors import Transient
from schemas.outbound import AccessPort

_BACKLOG = 64


@dataclass(frozen=True, slots=True)
class BoundPort:
    """`port` tells users where to go, `socket` is what their connections arrive at."""

    port: AccessPort
    socket: socket.socket


@contextmanager
def bound(
    host: str, ports: Sequence[Port], *, before: Iterable[AccessPort] = (), listening: bool
) -> Iterator[list[BoundPort]]:
    """Bind all `ports` on `host` and close our copies of the sockets at the end.

    Without a host port asked for, the one it had `before` is taken again if it is free, else any. A program of a
    template may bind a port that is only reserved (not `listening`) for itself: both sockets have SO_REUSEADDR.
    Raises `Transient("port_taken")` when a port asked for is in use.
    """
    earlier = {(port.port, port.protocol): port.host_port for port in before}
    with ExitStack() as stack:
        result = []
        for port in ports:
            wanted = port.host or earlier.get((port.container, port.protocol), 0)
            try:
                made = _bind(host, port, wanted)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if port.host:
                    raise Transient("port_taken", f"Port {port.host} of the host is in use.") from error
                made = _bind(host, port, 0)
            stack.enter_context(made)
            if listening and port.protocol == "tcp":
                made.listen(_BACKLOG)
            number: int = made.getsockname()[1]
            result.append(BoundPort(AccessPort(port=port.container, host_port=number, protocol=port.protocol), made))
        yield result


def _bind(host: str, port: Port, number: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    made = socket.socket(family, kind)
    try:
        if port.protocol == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, number))
    except BaseException:
        made.close()
        raise
    return made
