"""One list and watch for all that wait for pods, or for their end: the API server is asked once, not by each."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from consumer.catalog.identity import RESERVATION_ID
from consumer.dispatch import RetryPolicy
from consumer.handling.errors import ProvisionerError, Transient
from consumer.handling.ports import Status
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Answer
from consumer.provisioners.kubernetes.kinds import Kind, Object, uid_of
from consumer.provisioners.kubernetes.names import facts_of
from consumer.provisioners.kubernetes.sights import status_of

log = structlog.get_logger("moorage.kubernetes")

_KEEP_TRYING = RetryPolicy(max_attempts=2**31, max_elapsed=float("inf"), base_delay=0.5, max_delay=30.0)
_NOTABLE = 3
"""How often in a row it must have failed before an operator should know, and again each time so often."""

_LONGEST_WAIT = 30.0
"""Seconds that a server may wish us away at a time: whoever waits for a pod hears nothing meanwhile."""

_KEPT = ("imagePullSecrets", "nodeName")

Heard = Callable[[Object, bool], None]
"""Called with an object, and whether it is gone."""


class Watch:
    """What is known of the objects of one kind at this moment, and whoever waits for one to change.

    Of what is known there are metadata, node, names of logins and status.

    It begins when somebody first asks, and goes on until it is closed, whatever happens to the server meanwhile. What
    it knows may be old: who has to be certain asks the server.
    """

    def __init__(self, client: Client, kind: Kind, selector: str, namespace: str | None) -> None:
        self._client, self._kind, self._selector, self._namespace = client, kind, selector, namespace
        self._latest: dict[str, Object] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._listeners: list[Heard] = []
        self._task: asyncio.Task[None] | None = None
        self._looked = False

    def latest(self, shown: Object) -> Object | None:
        """What is known of the object that is where `shown` is."""
        return self._latest.get(self._kind.path_of(shown))

    @contextmanager
    def expecting(self, shown: Object) -> Iterator[Callable[[float], Awaitable[bool]]]:
        """Whoever looks inside and then waits misses no change of what is where `shown` is in between.

        What is returned waits for at most so many seconds, and tells whether there was one.
        """
        self._begin()
        waiter, path = asyncio.get_running_loop().create_future(), self._kind.path_of(shown)
        self._waiters.setdefault(path, set()).add(waiter)

        async def changed(within: float) -> bool:
            return bool((await asyncio.wait([waiter], timeout=within))[0])

        try:
            yield changed
        finally:
            self._forget(path, waiter)

    @contextmanager
    def endings(self) -> Iterator[Callable[[str, float], Awaitable[bool]]]:
        """Whoever has objects deleted inside, and then waits, misses an end only if the watch is cut off.

        What is returned waits for the object with an id, at most so many seconds, and tells whether it is known to be
        gone.
        """
        ends: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        leave = self.listen(lambda shown, gone: ends[uid_of(shown)].set() if gone else None)

        async def ended(uid: str, within: float) -> bool:
            with suppress(TimeoutError):
                await asyncio.wait_for(ends[uid].wait(), within)
            return ends[uid].is_set()

        try:
            yield ended
        finally:
            leave()

    def known(self) -> list[Object] | None:
        """All that there is, as the last change told; None before it was looked."""
        return [*self._latest.values()] if self._looked else None

    def listen(self, heard: Heard) -> Callable[[], None]:
        """Have `heard` called with each change from now on, until what is returned is called."""
        self._begin()
        self._listeners.append(heard)
        return lambda: self._listeners.remove(heard)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"watch-{self._kind.plural}")

    async def _run(self) -> None:
        version: str | None = None
        attempt = 0
        while True:
            wish: float | None = None
            try:
                if version is None:
                    version = await self._list()
                told = False
                async for change, shown in self._client.watch(self._kind, self._selector, version, self._namespace):
                    attempt, told = 0, True
                    version = shown["metadata"]["resourceVersion"]
                    if change != "BOOKMARK":
                        self._heard(shown, gone=change == "DELETED")
                if not told:  # not even a bookmark: it may be back from a backup, and older than what we know
                    version = None
            except Answer:
                version = None  # it has forgotten what happened since: look at all of it anew
            except ProvisionerError as error:
                wish = min(error.retry_after or 0.0, _LONGEST_WAIT) if isinstance(error, Transient) else None
                tell = log.debug
                if attempt and attempt % _NOTABLE == 0:
                    tell, version = log.warning, None
                tell("not_watching", runtime=self._client.runtime, kind=self._kind.plural, why=error.message)
            except Exception:  # whoever waits would never hear of anything again
                version = None
                log.exception("not_watching", runtime=self._client.runtime, kind=self._kind.plural)
            attempt += 1
            await asyncio.sleep(_KEEP_TRYING.delay(attempt, 0.0, wish) or 0.0)

    async def _list(self) -> str:
        found, version = await self._client.snapshot(self._kind, self._selector, self._namespace)
        there = {uid_of(shown) for shown in found}
        for known in [known for known in self._latest.values() if uid_of(known) not in there]:
            self._heard(known, gone=True)
        for shown in found:
            self._heard(shown, gone=False)
        self._looked = True
        return version

    def _heard(self, shown: Object, *, gone: bool) -> None:
        path = self._kind.path_of(shown)
        if not gone:
            self._latest[path] = _kept(shown)
        elif (known := self._latest.get(path)) is not None and uid_of(known) == uid_of(shown):
            del self._latest[path]
        for waiter in self._waiters.pop(path, ()):
            if not waiter.done():
                waiter.set_result(None)
        for listener in [*self._listeners]:
            listener(shown, gone)

    def _forget(self, path: str, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(path, set())
        waiters.discard(waiter)
        if not waiters:
            self._waiters.pop(path, None)


def _kept(shown: Object) -> Object:
    """What is read of an object that is kept: with thousands, the rest of it would be most of our memory."""
    about = {name: value for name, value in shown["metadata"].items() if name != "managedFields"}
    spec = {name: value for name, value in shown.get("spec", {}).items() if name in _KEPT and value}
    return {"metadata": about, "spec": spec, "status": shown.get("status", {})}


async def tell_endings(pods: Watch, ended: Callable[[str], None]) -> None:
    """Call `ended` with the reservation of each pod that ends or is deleted, once for each, until cancelled."""
    told: set[str] = set()

    def heard(pod: Object, gone: bool) -> None:
        uid, reservation_id = uid_of(pod), facts_of(pod).get(RESERVATION_ID)
        if reservation_id and uid not in told and (gone or status_of(pod) is Status.STOPPED):
            ended(reservation_id)
            told.add(uid)
        if gone:
            told.discard(uid)

    leave = pods.listen(heard)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        leave()
