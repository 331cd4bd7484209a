"""A server of a test's own that stands before another. Who comes gets a task, and is sent away at the end."""

import asyncio
import re
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar


@dataclass
class Rule:
    """Something that is done to the next `times` requests whose `METHOD path` matches."""

    pattern: re.Pattern[str]
    times: int


R = TypeVar("R", bound=Rule)


@dataclass
class Door(ABC, Generic[R]):
    """Open within its `async with`. `seen` counts `METHOD path`s."""

    seen: Counter[str] = field(default_factory=Counter, init=False)
    _rules: list[R] = field(default_factory=list, init=False)
    _connections: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _server: asyncio.Server | None = field(default=None, init=False)

    def count(self, pattern: str) -> int:
        return sum(count for request, count in self.seen.items() if re.search(pattern, request))

    async def __aenter__(self) -> Self:
        self._server = await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    @abstractmethod
    async def _listen(self) -> asyncio.Server:
        """Have `_accept` called for whoever comes."""

    @abstractmethod
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    def _asked(self, head: bytes) -> tuple[str, R | None]:
        """What is asked for, and the rule for it, which holds once less from now on."""
        method, path = head.split(b" ", 2)[:2]
        request = f"{method.decode()} {path.decode()}"
        self.seen[request] += 1
        rule = next((rule for rule in self._rules if rule.times > 0 and rule.pattern.search(request)), None)
        if rule is not None:
            rule.times -= 1
        return request, rule

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            self._connections.discard(task)
            await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever whoever is at its other end has done already."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
