"""Free ports on loopback."""

import random
import socket

_BELOW_EPHEMERAL = range(15_000, 32_000)
_RANDOM = random.SystemRandom()  # nobody seeds it, so two processes are not led to the same ports


def free_port() -> int:
    """A port that nobody listens on now, outside the range from which systems pick ports of outgoing connections.

    That range is a trap: a client that keeps dialling a dead server on such a port is in the end given that very port
    as its own, connects to itself, and the server cannot come back.
    """
    for port in _RANDOM.sample(_BELOW_EPHEMERAL, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("200 random ports on 127.0.0.1 are all taken; see what listens there")


def listening(port: int) -> bool:
    """Whether something accepts connections on this port of loopback."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
