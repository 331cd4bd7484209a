"""A registry's front that behaves badly: slow, cut off, refusing. Speaks plain HTTP, as engines allow on loopback."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Literal

from tests.provisioners.door import Door, Rule, hang_up

_TLS = b"\x16"
Trouble = Literal["cut", "hang"]


@dataclass
class _Rule(Rule):
    trouble: Trouble | bytes


@dataclass
class RegistryProxy(Door[_Rule]):
    """Listens at `address` and passes on to `registry` (host:port)."""

    registry: str
    host: str = "127.0.0.1"
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """What hangs goes on when this is set."""

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"{self.host}:{self._server.sockets[0].getsockname()[1]}"

    def on(self, pattern: str, trouble: Trouble, *, times: int = 10_000) -> None:
        """`cut` the answer in the middle of its body, or `hang` before it."""
        self._rules.append(_Rule(re.compile(pattern), times, trouble))

    def answer(self, pattern: str, status: int, body: str = "", *, times: int = 10_000, **headers: str) -> None:
        """Answer here instead of the registry."""
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join((*lines, "Connection: close", "", ""))
        self._rules.append(_Rule(re.compile(pattern), times, (head + body).encode()))

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, self.host)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == _TLS:
            return  # engines try that first, and take plain HTTP as soon as they see that it is none
        head = first + await reader.readuntil(b"\r\n\r\n")
        _, rule = self._asked(head)
        trouble = rule.trouble if rule is not None else None
        if isinstance(trouble, bytes):
            writer.write(trouble)
            await writer.drain()
            return
        if trouble == "hang":
            await self.released.wait()
        await self._pass_on(head, writer, cut=trouble == "cut")

    async def _pass_on(self, request: bytes, writer: asyncio.StreamWriter, *, cut: bool) -> None:
        host, _, port = self.registry.partition(":")
        from_registry, to_registry = await asyncio.open_connection(host, int(port))
        try:
            to_registry.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            answer = await from_registry.read()
            head, blank, body = answer.partition(b"\r\n\r\n")
            writer.write(head + blank + (body[: len(body) // 2] if cut else body))
            await writer.drain()
        finally:
            await hang_up(to_registry)
