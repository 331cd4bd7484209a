"""The page of an environment that has no program of its own: whose it is, and until when.

Run as a script by the supervisor, with the standard library only. One thread serves everybody; what is read from a
visitor, how long that may take and how many are served at a time are all bounded.
"""

import contextlib
import html
import json
import os
import selectors
import socket
import time
from pathlib import Path

RECORD_VARIABLE = "MOORAGE_RECORD"
SOCKETS_VARIABLE = "MOORAGE_SOCKETS"

_REQUEST_BYTES = 8192
_PATIENCE = 5.0
_VISITORS = 64
_FACTS = (
    ("Reservation", "moorage/reservation-id"),
    ("User", "moorage/user"),
    ("Resource", "moorage/resource"),
    ("Until", "moorage/expires-at"),
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 4rem auto; padding: 0 1rem }}
dt {{ color: GrayText }}
dd {{ margin: 0 0 1rem; overflow-wrap: anywhere }}
</style>
<h1>{title}</h1>
<dl>
{facts}
</dl>
</html>
"""


def render(labels: dict[str, str]) -> str:
    """The page as HTML. Labels hold what people typed: every value is escaped."""
    facts = "\n".join(
        f"<dt>{name}</dt><dd>{html.escape(labels[label])}</dd>" for name, label in _FACTS if label in labels
    )
    return _PAGE.format(title=html.escape(labels.get("moorage/resource", "Environment")), facts=facts)


def response(request: bytes, labels: dict[str, str]) -> bytes:
    """The whole answer to the head of an HTTP request."""
    method, _, rest = request.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        status, kind, body = "405 Method Not Allowed", "text/plain", b"Only GET and HEAD are served here.\n"
    elif path == b"/":
        status, kind, body = "200 OK", "text/html", render(labels).encode(errors="replace")
    else:
        status, kind, body = "404 Not Found", "text/plain", b"There is only one page here: /\n"
    head = (
        f"HTTP/1.1 {status}\r\n"
        f"Content-Type: {kind}; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    return head if method == b"HEAD" else head + body


class _Visitor:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + _PATIENCE
        self.received = b""
        self.pending = b""


class Page:
    def __init__(self, listeners: list[socket.socket], record: Path) -> None:
        self._record = record
        self._visitors: set[_Visitor] = set()
        self._selector = selectors.DefaultSelector()
        for listener in listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)

    def serve_forever(self) -> None:
        while True:
            for key, _ in self._selector.select(1.0 if self._visitors else None):
                if isinstance(key.data, _Visitor):
                    self._attend(key.data)
                else:
                    self._accept(key.fileobj)
            for visitor in [each for each in self._visitors if each.deadline < time.monotonic()]:
                self._leave(visitor)

    def _accept(self, listener: object) -> None:
        if not isinstance(listener, socket.socket):
            return
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if len(self._visitors) >= _VISITORS:
            connection.close()
            return
        connection.setblocking(False)
        visitor = _Visitor(connection)
        self._visitors.add(visitor)
        self._selector.register(connection, selectors.EVENT_READ, visitor)

    def _attend(self, visitor: _Visitor) -> None:
        try:
            if not visitor.pending:
                data = visitor.connection.recv(_REQUEST_BYTES)
                visitor.received += data
                if b"\r\n\r\n" in visitor.received:
                    visitor.pending = response(visitor.received, self._labels())
                    self._selector.modify(visitor.connection, selectors.EVENT_WRITE, visitor)
                elif not data or len(visitor.received) > _REQUEST_BYTES:
                    self._leave(visitor)
                return
            visitor.pending = visitor.pending[visitor.connection.send(visitor.pending) :]
        except BlockingIOError:
            return
        except OSError:
            self._leave(visitor)
            return
        if not visitor.pending:
            self._leave(visitor)

    def _leave(self, visitor: _Visitor) -> None:
        self._visitors.discard(visitor)
        self._selector.unregister(visitor.connection)
        with contextlib.suppress(OSError):
            visitor.connection.shutdown(socket.SHUT_WR)
        visitor.connection.close()

    def _labels(self) -> dict[str, str]:
        # Read anew for every visit: the end of a reservation moves.
        try:
            labels: dict[str, str] = json.loads(self._record.read_bytes())["labels"]
        except (OSError, ValueError, KeyError):
            return {}
        return labels


def main() -> None:
    listeners = [socket.socket(fileno=int(fd)) for fd in os.environ[SOCKETS_VARIABLE].split(",")]
    Page(listeners, Path(os.environ[RECORD_VARIABLE])).serve_forever()


if __name__ == "__main__":
    main()
