"""A door in front of a Docker Engine that can be told to slam: lost replies, errors, silence, or anything at random."""

import asyncio
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from tests.provisioners.door import Door, Rule, hang_up

Action = Literal["refuse", "abandon", "lose_reply", "cut_reply", "delay", "hang", "answer"]
"""Before the engine hears of it the door may `refuse` or `answer` itself; while the engine is at work, `abandon` the
client; once it is done, `lose_reply`, `cut_reply` or `delay` it."""

_FAULTS: tuple[tuple[Action, int], ...] = (
    ("refuse", 0),
    ("abandon", 0),
    ("lose_reply", 0),
    ("cut_reply", 0),
    ("delay", 0),
    ("answer", 409),
    ("answer", 500),
)
_LONGEST_DELAY = 1.0


@dataclass
class _Rule(Rule):
    action: Action
    status: int = 500
    body: bytes = b""
    headers: bytes = b""


@dataclass
class EngineProxy(Door[_Rule]):
    """Listens at `url` and passes on to `engine`, one request a connection.

    `faults` are what befell by chance, and to which requests.
    """

    engine: Path
    socket: Path
    faults: list[tuple[str, str]] = field(default_factory=list)
    _chance: float = 0.0
    _random: Random = field(default_factory=Random)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def on(self, pattern: str, action: Action, *, times: int = 1) -> None:
        """Do `action` to the next `times` requests whose `METHOD path` matches."""
        self._rules.append(_Rule(re.compile(pattern), times, action))

    def answer(
        self,
        pattern: str,
        status: int,
        message: str,
        *,
        times: int = 1,
        raw: bytes | None = None,
        headers: bytes = b"",
    ) -> None:
        """Answer such requests here, as the engine would with an error."""
        body = json.dumps({"message": message}).encode() if raw is None else raw
        self._rules.append(_Rule(re.compile(pattern), times, "answer", status, body, headers))

    def disturb(self, chance: float, *, seed: int = 0) -> None:
        """From now on, let something befall each request with this chance; 0 ends it."""
        self._chance, self._random = chance, Random(seed)  # noqa: S311 - the same faults every time

    async def settled(self) -> None:
        """Return when the engine has done whatever it was asked, whether or not anybody waits for it."""
        while self._connections:
            await asyncio.wait(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1])) if length else b""
        request, rule = self._asked(head)
        if rule is None:
            rule = self._mishap(request)
        match rule.action if rule is not None else None:
            case "refuse":
                return
            case "hang":
                await asyncio.sleep(3600)
            case "answer":
                assert rule is not None
                kind = b"application/json" if rule.body.startswith(b"{") else b"text/plain"
                answer = b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nContent-Length: %d\r\n%bConnection: close\r\n\r\n"
                writer.write(answer % (rule.status, kind, len(rule.body), rule.headers) + rule.body)
                await writer.drain()
            case action:
                head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
                await self._pass_on(head + body, writer, action)

    def _mishap(self, request: str) -> _Rule | None:
        if self._random.random() >= self._chance:
            return None
        action, status = self._random.choice(_FAULTS)
        self.faults.append((f"{action} {status}" if status else action, request))
        return _Rule(re.compile(""), 1, action, status, b'{"message": "by chance"}')

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._accept, self.socket)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.engine)

    async def _pass_on(self, request: bytes, writer: asyncio.StreamWriter, action: Action | None) -> None:
        from_engine, to_engine = await self._reach()
        try:
            to_engine.write(request)
            if action == "abandon":
                writer.close()
                await from_engine.read()
                return
            if action == "delay":
                await asyncio.sleep(self._random.uniform(0, _LONGEST_DELAY))
            if action in ("lose_reply", "cut_reply"):
                reply = await from_engine.read()
                writer.write(reply[: len(reply) // 2] if action == "cut_reply" else b"")
                return
            while data := await from_engine.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            await hang_up(to_engine)
