"""Get or create, and deletions that are waited for: by an object's id or its labels, never by its name alone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Conflicting, Missing, NotYet
from consumer.provisioners.kubernetes.kinds import (
    ANCHOR,
    POD,
    SECRET,
    Kind,
    Object,
    belongs_to_anchor,
    is_dying,
    name_of,
    uid_of,
)
from consumer.provisioners.kubernetes.manifests import has_values_of
from consumer.provisioners.kubernetes.names import facts_of
from consumer.provisioners.kubernetes.watching import Watch

_LOOK_AGAIN, _LOOK_ANYWAY = 0.1, 2.0
"""Seconds after which it is looked again: at first and in the end; or where a watch tells, which may be cut off."""


class Objects:
    """`watches` tell what is gone; at objects of other kinds it is looked now and then."""

    def __init__(self, client: Client, watches: Mapping[Kind, Watch], gone_timeout: float) -> None:
        self._client, self._watches, self._gone_timeout = client, watches, gone_timeout

    async def create(self, kind: Kind, body: dict[str, Any]) -> Object:
        """Raises `Conflicting` when the name is taken: perhaps by what we made ourselves, and the reply was lost."""
        body = {"apiVersion": kind.api_version, "kind": kind.name} | body
        deadline = asyncio.get_running_loop().time() + self._gone_timeout
        while True:
            try:
                return await self._once(kind, body)
            except NotYet:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(_LOOK_AGAIN)

    async def _once(self, kind: Kind, body: dict[str, Any]) -> Object:
        try:
            return await self._client.create(kind, body)
        except NotYet:
            raise
        except (Unavailable, Transient) as error:
            # It may have been done all the same: only looking tells.
            with suppress(Unavailable, Transient):
                if await self._client.get(kind, body) is not None:
                    raise Conflicting(name_of(body)) from error
            raise

    async def have(self, kind: Kind, body: dict[str, Any], anchor: Object) -> Object:
        """The object of `anchor` that `body` describes: made, or found to be there.

        One of an earlier anchor, on its way out, is waited for. Raises `Permanent("conflict")` when somebody else's
        has the name, and `Transient("runtime_busy")` when the anchor is not there any more.
        """
        name, loop = name_of(body), asyncio.get_running_loop()
        deadline = loop.time() + self._gone_timeout
        while True:
            try:
                return await self.create(kind, body)
            except Conflicting:
                seen = await self._client.get(kind, body)
            if seen is None:
                if loop.time() > deadline:
                    raise Transient("runtime_busy", f"The {kind.name} {name} can neither be made nor found.")
                await asyncio.sleep(_LOOK_AGAIN)
                continue
            if not facts_of(seen):
                raise Permanent("conflict", f"The {kind.name} {name} belongs to something Moorage did not make.")
            if belongs_to_anchor(seen, anchor) and not is_dying(seen):
                return seen
            await self.gone(kind, seen)
            await self.still(anchor)

    async def still(self, anchor: Object) -> None:
        """Raises `Transient("runtime_busy")` when the anchor is not there any more."""
        if (now := await self._client.get(ANCHOR, anchor)) is None or uid_of(now) != uid_of(anchor):
            raise Transient("runtime_busy", "The environment was removed while it was being made.")

    async def have_secret(self, body: dict[str, Any], anchor: Object) -> Object:
        """The same for a secret that nothing runs with: one that holds other values by now is made anew."""
        seen = await self.have(SECRET, body, anchor)
        if has_values_of(seen, body):
            return seen
        await self.delete(SECRET, seen)
        return await self.have(SECRET, body, anchor)

    async def delete(self, kind: Kind, shown: Object) -> None:
        """Have this object deleted, and return when it is gone."""
        with self._endings(kind) as ended:
            try:
                if await self._client.delete(kind, shown) or await ended(shown, _LOOK_AGAIN):
                    return
            except (Missing, Conflicting):
                return
        await self.gone(kind, shown)

    async def delete_all(self, kind: Kind, selector: str, namespace: str) -> None:
        """Have all objects with these labels deleted, and return when they are gone."""
        with self._endings(kind) as ended:
            there = await self._client.delete_all(kind, selector, namespace)
            for each in there:
                if (kind is POD or each["metadata"].get("finalizers")) and not await ended(each, _LOOK_AGAIN):
                    await self.gone(kind, each)

    async def gone(self, kind: Kind, shown: Object) -> None:
        """Return when this object is gone. Raises `Transient("runtime_busy")` when that takes too long."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._gone_timeout, _LOOK_AGAIN
        while True:
            with self._endings(kind) as ended:
                seen = await self._client.get(kind, shown)
                if seen is None or uid_of(seen) != uid_of(shown):
                    return
                if loop.time() > deadline:
                    what = "pod" if kind is POD else "environment" if kind is ANCHOR else kind.name
                    raise Transient("runtime_busy", f"The {what} is still being removed.")
                if await ended(shown, pause):
                    return
            pause = min(2 * pause, _LOOK_ANYWAY)

    @contextmanager
    def _endings(self, kind: Kind) -> Iterator[Callable[[Object, float], Awaitable[bool]]]:
        """What is returned waits for an object's end, for so many seconds or as long as is worth it, and tells whether
        it was told of it."""
        if (watch := self._watches.get(kind)) is None:
            yield _sleep
            return
        with watch.endings() as ended:
            yield lambda shown, seconds: ended(uid_of(shown), seconds if watch.known() is None else _LOOK_ANYWAY)


async def _sleep(_: Object, seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return False
