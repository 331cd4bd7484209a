"""Requests that run to their end, even when nobody waits for them any more or another one has failed."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from consumer.handling.errors import Unavailable

T = TypeVar("T")


async def together(*calls: Awaitable[T]) -> list[T]:
    """What these come to, once all have ended: when one has failed, none is under way any more."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    return [each for each in ended if not isinstance(each, BaseException)]


class InFlight:
    """What a runtime was asked for a key and has not answered yet.

    It does not stop creating something because the client hung up. Whoever cleans up after a cancelled
    request waits here first: otherwise it finds nothing, and what it looked for appears afterwards.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, set[asyncio.Task[Any]]] = {}

    async def run(self, key: str, request: Coroutine[Any, Any, T]) -> T:
        """What `request` comes to. When the caller is cancelled it goes on by itself."""
        task = asyncio.create_task(request, name=f"request-{key}")
        self._tasks.setdefault(key, set()).add(task)
        task.add_done_callback(lambda _: self._done(key, task))
        await asyncio.wait([task])
        if task.cancelled():
            raise Unavailable("The connection to the runtime was closed.")
        return task.result()

    async def settled(self, key: str) -> None:
        """Return when nothing is under way for `key`."""
        while tasks := self._tasks.get(key):
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, key: str, task: asyncio.Task[Any]) -> None:
        tasks = self._tasks[key]
        tasks.discard(task)
        if not tasks:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # seen: if the caller is gone, nobody else will look
