"""Comparing what runs with what is remembered: what nobody remembers goes, what is gone is told.

Nothing is changed here but the ends that runtimes show (`ends.py`). What differs otherwise is looked at once more, in
its reservation's lane, and dealt with there.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

import structlog

from consumer.dispatch import Assignment
from consumer.handling.agenda import Agenda
from consumer.handling.ends import Ends
from consumer.handling.lifecycle import Lifecycle
from consumer.handling.ports import Environment, Provisioner, Status
from consumer.handling.quotas import Ledger
from consumer.handling.runtimes import Look
from consumer.handling.sealed import Sealed
from schemas.state import Phase
from schemas.state_index import StateIndex

log = structlog.get_logger("moorage.reconciliation")

_SETTLING = 2.0
"""Seconds after which it is looked at what a runtime says has ended: who restarts it by hand has not ended it."""

_AT_ONCE = 1_000
"""States that are compared between two turns of the event loop: a few milliseconds."""

_AHEAD = 10.0
"""Seconds that the look before the first record may take."""


class Reconciliation:
    """Each member compares the partitions it owns.

    `partition_of` tells to which partition the platform's records of a reservation go. `delay`, in seconds, is how long
    a difference must last before anything is done about it: runtimes and memory change while they are looked at.
    """

    def __init__(
        self,
        agenda: Agenda,
        lifecycle: Lifecycle,
        ledger: Ledger,
        *,
        partition_of: Callable[[str], int | None],
        now: Callable[[], datetime],
        interval: float,
        delay: float,
        grace: timedelta,
    ) -> None:
        self._agenda = agenda
        self._lifecycle = lifecycle
        self._ledger = ledger
        self._partition_of = partition_of
        self._now = now
        self._interval = interval
        self._delay = timedelta(seconds=delay)
        self._grace = grace
        self._ends = Ends(lifecycle, self._known, now)
        self._since: dict[str, datetime] = {}
        """When each reservation was first seen to differ."""

    async def run(self, review: Callable[[Assignment, str], bool]) -> None:
        """Compare every `interval` seconds, until cancelled; `review` is called for what differs for too long."""
        async with asyncio.TaskGroup() as tasks:
            telling: asyncio.Task[None] | None = None
            while True:
                await asyncio.sleep(self._interval)
                look = await self.compare(review)
                if telling is None or telling.done():  # many ends take their time, and nothing else waits for them
                    telling = tasks.create_task(self._ends.tell(look.environments))

    async def watch(self, provisioner: Provisioner, review: Callable[[Assignment, str], bool]) -> None:
        """Have `review` called soon for what a runtime says has ended, until cancelled; Moorage's own doing aside.

        Once within `delay` seconds for each: one that is made again and ends again is left to the next comparison.
        """
        loop = asyncio.get_running_loop()
        looked: dict[str, float] = {}
        pending: dict[str, asyncio.TimerHandle] = {}

        def look(reservation_id: str) -> None:
            del pending[reservation_id]
            index, owner = self._agenda.states.index(reservation_id), self._owner_of(reservation_id)
            if index is None or index.phase is not Phase.ACTIVE or owner is None or owner.closed:
                return
            if review(owner, reservation_id):
                looked[reservation_id] = loop.time()

        def ended(reservation_id: str) -> None:
            for name in [name for name, at in looked.items() if loop.time() - at >= self._delay.total_seconds()]:
                del looked[name]
            known = reservation_id in looked or reservation_id in pending
            if not known and not self._lifecycle.removes(reservation_id):
                pending[reservation_id] = loop.call_later(_SETTLING, look, reservation_id)

        try:
            await provisioner.watch(ended)
        finally:
            for timer in pending.values():
                timer.cancel()

    async def look_ahead(self) -> None:
        """Count what runs already, before anything is started that may be too much. Gives up after some seconds."""
        if not self._ledger.bounded:
            return
        await self._look(patience=_AHEAD)

    async def _look(self, *, patience: float | None = None) -> Look:
        """All environments of this instance. Those that are not remembered here count for quotas all the same."""
        self._ledger.begin_look()
        look = await self._lifecycle.everything(patience=patience)
        for name, error in look.silent.items():
            log.warning("not_reconciled", runtime=name, code=error.code, why=error.message, again_in=self._interval)
        self._ledger.observe(look.environments, look.silent.keys())
        return look

    async def compare(self, review: Callable[[Assignment, str], bool]) -> Look:
        """Once; what was seen. Nothing is said of what may be on a runtime that does not answer."""
        look = await self._look()
        now, differing = self._now(), dict(self._unwanted(look.environments))
        differing |= await self._gone(look)
        self._since = {name: self._since.get(name, now) for name in differing}
        lasting = [name for name, since in self._since.items() if now - since >= self._delay]
        for reservation_id in lasting:
            if review(differing[reservation_id], reservation_id):
                del self._since[reservation_id]
        log.debug("reconciled", environments=len(look.environments), differences=len(differing), reviewed=len(lasting))
        return look

    def _unwanted(self, environments: Iterable[Environment]) -> Iterator[tuple[str, Assignment]]:
        """The reservations that have an environment and should not, and who is to look at them."""
        for environment in environments:
            index = self._agenda.states.index(environment.reservation_id)
            keeper = self._keeper_of(environment) if index is None else self._owner_of(environment.reservation_id)
            if keeper is not None and (
                index is None or index.phase is not Phase.ACTIVE or self._strayed(keeper, environment, index)
            ):
                yield environment.reservation_id, keeper

    def _strayed(self, keeper: Assignment, environment: Environment, index: StateIndex) -> bool:
        """Whether it is on another runtime than its reservation's own environment."""
        if index.runtime is not None:
            return index.runtime != environment.runtime
        try:  # the first releases did not note it
            state = self._agenda.get(keeper, environment.reservation_id)
        except Sealed:
            return False
        return state is not None and state.runtime != environment.runtime

    async def _gone(self, look: Look) -> dict[str, Assignment]:
        """The reservations with an environment that does not run, or is not there, and who is to look at them.

        What is not ACTIVE and has one could not be released: it is remembered until somebody has seen that it is gone.
        What is placed is being made, or that was given up: its lane knows.
        """
        alive = (Status.RUNNING, Status.STARTING)
        running = {each.reservation_id for each in look.environments if each.status in alive}
        gone: dict[str, Assignment] = {}
        for partition, assignment in self._agenda.owned.items():
            for count, (reservation_id, index) in enumerate(self._agenda.states.indexes(partition), 1):
                missing = index.phase is not Phase.ACTIVE or reservation_id not in running
                has = index.environment or index.placed is not None
                if has and missing and not _is_hidden(index, look):
                    gone[reservation_id] = assignment
                if count % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        return gone

    def _known(self, reservation_id: str) -> StateIndex | None:
        """What is remembered of a reservation, if it is handled here."""
        owner = self._owner_of(reservation_id)
        return self._agenda.states.index(reservation_id) if owner is not None and not owner.closed else None

    def _owner_of(self, reservation_id: str) -> Assignment | None:
        """The assignment in whose lanes a reservation is handled that is remembered here."""
        owned, partition = self._agenda.owned, self._partition_of(reservation_id)
        if partition is not None and partition in owned:
            return owned[partition]
        return next(iter(owned.values()), None)  # its records are keyed by something else

    def _keeper_of(self, environment: Environment) -> Assignment | None:
        """The assignment in whose lanes an environment is removed that nobody here remembers; None to leave it alone.

        Its state may be another member's, if records are keyed by something else than the reservation. So only whoever
        owns the partition of its reservation cares, and not before its time is over.
        """
        partition = self._partition_of(environment.reservation_id)
        assignment = self._agenda.owned.get(partition) if partition is not None else None
        expires = environment.expires_at
        if assignment is None or (expires is not None and expires + self._grace > self._now()):
            return None
        return assignment


def _is_hidden(index: StateIndex, look: Look) -> bool:
    """Whether the environment of a state may be on a runtime that did not answer."""
    runtime = index.placed or index.runtime
    return bool(look.silent) and (runtime is None or runtime in look.silent)
