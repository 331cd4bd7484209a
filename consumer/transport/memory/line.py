"""The line from one process to the broker: what travels on it takes time, gets lost, or finds nobody there."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol, TypeVar

from aiokafka.errors import KafkaConnectionError, RequestTimedOutError

T = TypeVar("T")

Operation = Literal[
    "connect",
    "metadata",
    "produce",
    "fetch",
    "list_offsets",
    "fetch_offsets",
    "commit",
    "join",
    "sync",
    "heartbeat",
    "leave",
    "create_topics",
    "delete_topics",
]

_COORDINATION = frozenset({"fetch_offsets", "commit", "join", "sync", "heartbeat", "leave"})

RETRY_BACKOFF = 0.1
"""Seconds between attempts: aiokafka's default."""


class Faults:
    """Consulted twice for each request; this one lets everything pass. Make your own to have things go wrong."""

    async def at(self, client: str, operation: Operation, *, applied: bool) -> None:
        """A request is on its way, or (`applied`) has been carried out and the reply is.

        Sleep for a slow broker; raise a `KafkaError` for one that refuses, or whose reply is lost; never return for a
        process that hangs; cut the client's line for one that is killed at this moment.
        """


class Server(Protocol):
    """What a line needs to know about the broker."""

    @property
    def up(self) -> bool: ...

    @property
    def faults(self) -> Faults: ...


class Line:
    """Carries the requests of all clients of one process until it is cut.

    Those to the group's coordinator arrive in the order in which they were sent: they share a connection.
    """

    def __init__(self, server: Server, client: str) -> None:
        self.client = client
        self._server = server
        self._cut = False
        self._coordination = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_cut(self) -> bool:
        return self._cut

    def cut(self) -> None:
        """From now on nothing reaches the broker, no reply the client, and what clients do by themselves ends."""
        self._cut = True
        for task in self._tasks:
            task.cancel()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Have a client's background work done, until the line is cut."""
        task = asyncio.create_task(work, name=f"{name} of {self.client}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait_for(self, task: "asyncio.Task[None]") -> None:
        """Wait for what was started here, without cancelling it when the waiting is. When the line is cut, for ever."""
        await asyncio.wait([task])
        if self._cut:
            await asyncio.get_running_loop().create_future()
        task.result()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for the task gets it, and if nobody does it is nobody's business

    async def request(
        self, operation: Operation, apply: Callable[[], "T | asyncio.Future[T]"], timeout: float = 40.0
    ) -> T:
        """Have the broker do something, and return its reply. Raises the `KafkaError` of whatever went wrong."""
        try:
            async with asyncio.timeout(timeout):
                if operation in _COORDINATION:
                    async with self._coordination:
                        await self._travel(operation, applied=False)
                        reply = apply()
                else:
                    await self._travel(operation, applied=False)
                    reply = apply()
                result = await reply if isinstance(reply, asyncio.Future) else reply
                await self._travel(operation, applied=True)
        except TimeoutError as error:
            raise RequestTimedOutError(f"{operation} was not answered within {timeout:g} s") from error
        return result

    async def _travel(self, operation: Operation, *, applied: bool) -> None:
        # No request is answered at once: what runs in between is what tests are about.
        await asyncio.sleep(0)
        if not self._cut:
            await self._server.faults.at(self.client, operation, applied=applied)
        if self._cut:
            await asyncio.get_running_loop().create_future()
        if not self._server.up:
            raise KafkaConnectionError("the broker is down")
