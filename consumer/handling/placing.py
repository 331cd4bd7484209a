"""On which engine of a pool an environment is made: chosen at the start, and remembered before anything is made there.

A start that is repeated, by whoever and after whatever, therefore goes on where it began: an engine that does not
answer may have what was asked of it, and only it can tell. Elsewhere goes who is known to have asked for nothing yet.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import reservation_key
from consumer.catalog.quotas import Holding, Usage
from consumer.catalog.templates import Catalog
from consumer.dispatch import Assignment
from consumer.handling.errors import Transient, Unavailable
from consumer.handling.ports import Environment, Status
from consumer.handling.quotas import Ledger
from consumer.handling.runtimes import Runtimes
from schemas.events import Resource
from schemas.state import Phase, ReservationState

_A_MOMENT = timedelta(microseconds=1)

GLANCE = 5.0
"""Seconds that an engine has to say whether it has something of which nobody knows."""


class Placing:
    """`is_shut` says of a runtime that its circuit breaker lets nothing through at this moment."""

    def __init__(
        self,
        catalog: Catalog,
        runtimes: Runtimes,
        ledger: Ledger,
        *,
        instance: str,
        is_shut: Callable[[str], bool] = lambda runtime: False,
    ) -> None:
        self._catalog = catalog
        self._runtimes = runtimes
        self._ledger = ledger
        self._instance = instance
        self.is_shut = is_shut
        self._untouched: dict[Assignment, set[str]] = {}
        """Whom this member has placed, in which stretch of owning their partition, without asking for anything yet."""

    def runtimes_for(self, resource: Resource) -> tuple[str, ...]:
        """Where an environment on this resource may be made."""
        template = self._catalog.template_for(resource)
        return template.runtimes if template is not None else ()

    def is_pool(self, resource: Resource) -> bool:
        """Whether that is one of several engines, or could be."""
        return any(name in self._catalog.engines for name in self.runtimes_for(resource))

    def runtime_for(self, assignment: Assignment, state: ReservationState | None, resource: Resource) -> str | None:
        """The runtime that work on this reservation will need; None as well where that is yet to be chosen."""
        runtimes = self.runtimes_for(resource)
        if state is not None and state.placed is not None:
            return None if self._may_leave(assignment, state, runtimes) else state.placed
        chosen = not self.is_pool(resource)
        if state is not None and state.runtime is not None and (chosen or _is_or_was_there(state)):
            return state.runtime
        return runtimes[0] if runtimes and chosen else None

    def runtime_of_end(self, assignment: Assignment, state: ReservationState | None, resource: Resource) -> str | None:
        """The runtime that has to say that nothing of a reservation is left: what releases asks, and waits for."""
        if state is not None:
            if state.placed is not None:
                return state.placed
            if state.runtime is not None and (state.environment or state.phase is not Phase.PENDING):
                return state.runtime
        return self.runtime_for(assignment, state, resource)

    def target(self, spec: EnvironmentSpec, remembered: ReservationState | None) -> str:
        """Where `spec` is to be made, once `place` had nothing more to say. Raises `Transient` if it has by now."""
        if len(spec.runtimes) == 1:
            return spec.runtimes[0]
        for name in _places_of(remembered):
            if name in spec.runtimes:
                return name
        raise Transient("runtime_busy", "The environment that was there has just gone.")

    async def place(
        self, assignment: Assignment, wanted: ReservationState, remembered: ReservationState | None, *, at: float
    ) -> ReservationState | None:
        """What is to be remembered before `wanted` is made in a pool; None where it is known already where that is.

        Raises `Refused`, or `Queued` where a start waits, when no engine that answers has room. An engine that does not
        answer is `Unavailable` until its breaker has opened; from then on it is done without. `at` is the loop's time.
        """
        runtimes = self.runtimes_for(wanted.resource)
        if not self.is_pool(wanted.resource) or await self._is_settled(assignment, remembered, runtimes):
            return None
        spec = self._catalog.resolve(wanted)
        usage = Usage(1, spec.limits.cpu_millis or 0, spec.limits.memory_bytes or 0)
        holding = Holding(spec.user.id, spec.template, usage, self._candidates(spec, remembered))
        self._ledger.ask_again(spec.reservation_id, holding, at=at)
        found = await self._search(spec)
        alive = {name: each for name, each in found.items() if each.status is not Status.STOPPED}
        exists = any(each.spec_hash == spec.spec_hash for each in alive.values())
        where = tuple(alive) or tuple(found) or holding.runtimes
        engine = self._ledger.claim_one(spec.reservation_id, holding._replace(runtimes=where), at=at, exists=exists)
        # Who has but one place to go waits there.
        self._note(assignment, spec.reservation_id, untouched=not found and len(where) > 1)
        # As if nothing had come yet: whoever handles the event again decides the same.
        base = remembered or wanted.model_copy(update={"phase": Phase.PENDING, "start_seen": False})
        limits = {"cpu_millis": spec.limits.cpu_millis, "memory_bytes": spec.limits.memory_bytes}
        counts = {"template": spec.template, **limits} if base.phase is not Phase.ACTIVE else {}
        return base.model_copy(update={"placed": engine, "changed_at": newer(wanted, remembered), **counts})

    def touch(self, reservation_id: str) -> None:
        """From now on its engine may have something of it."""
        for untouched in self._untouched.values():
            untouched.discard(reservation_id)

    def must_answer(self, state: ReservationState | None) -> list[str]:
        """The runtimes without which nothing can be said of a reservation: all but engines that nothing points to.

        What such a one should have all the same is swept away when it answers again.
        """
        known = _places_of(state)
        return [name for name in self._runtimes if name not in self._catalog.engines or name in known]

    async def seen(self, names: Collection[str], key: str) -> list[str]:
        """Those of these runtimes that say at once that they have something of this key."""
        found, _ = await self._runtimes.search([name for name in names if not self.is_shut(name)], key, patience=GLANCE)
        return list(found)

    def pointing(self, state: ReservationState, former: ReservationState | None) -> ReservationState:
        """`state`, which remembers no environment, with the engine that may still have one of `former`."""
        known = former is not None and former.environment and not state.environment and state.placed is None
        if not known or former is None or former.runtime not in self._catalog.engines:
            return state
        return state.model_copy(update={"placed": former.runtime})

    def _note(self, assignment: Assignment, reservation_id: str, *, untouched: bool) -> None:
        self.touch(reservation_id)
        self._untouched = {each: names for each, names in self._untouched.items() if names and not each.closed}
        if untouched:
            self._untouched.setdefault(assignment, set()).add(reservation_id)

    def _may_leave(self, assignment: Assignment, state: ReservationState, runtimes: Collection[str]) -> bool:
        """Whether its engine does not answer, was not asked for anything yet, and another one may answer."""
        return (
            state.placed is not None
            and state.reservation_id in self._untouched.get(assignment, ())
            and self.is_shut(state.placed)
            and not all(map(self.is_shut, runtimes))
        )

    async def _is_settled(
        self, assignment: Assignment, remembered: ReservationState | None, runtimes: Collection[str]
    ) -> bool:
        if remembered is None:
            return False
        if remembered.placed is not None and self._may_leave(assignment, remembered, runtimes):
            return False
        if any(name in runtimes for name in _places_of(remembered)):
            return True
        # Templates have changed. What runs stays; what a start left is gone before it is forgotten where that was.
        key = reservation_key(self._instance, remembered.reservation_id)
        runtime, placed = remembered.runtime, remembered.placed
        if remembered.phase is Phase.ACTIVE and runtime is not None and runtime in self._runtimes:
            found = await self._runtimes.find(runtime, key)
            if found is not None and found.status is Status.RUNNING:
                return True
        if placed is not None and placed in self._runtimes:
            await self._runtimes.remove(placed, key)
        return False

    def _candidates(self, spec: EnvironmentSpec, remembered: ReservationState | None) -> tuple[str, ...]:
        """Where it may be made; where its volume is, if it had one."""
        former = remembered.runtime if remembered is not None and spec.volume is not None else None
        return (former,) if former in spec.runtimes and former is not None else spec.runtimes

    async def _search(self, spec: EnvironmentSpec) -> dict[str, Environment]:
        """What there is of a reservation of which it is not known where it was begun: its state may have been lost."""
        asked = [name for name in spec.runtimes if not self.is_shut(name)]
        found, silent = await self._runtimes.search(asked, spec.key, patience=GLANCE)
        for name, error in () if found else silent.items():
            raise Unavailable(error.message, name) from error
        return found


def _places_of(state: ReservationState | None) -> list[str]:
    """The runtimes that may have something of a reservation, by what is remembered of it; where it runs first."""
    if state is None:
        return []
    runs = state.runtime if state.environment else None
    return [name for name in (runs, state.placed) if name is not None]


def newer(state: ReservationState, remembered: ReservationState | None) -> datetime:
    """When `state` changed: later than what is remembered, whatever clocks said, since the newest of two counts."""
    return state.changed_at if remembered is None else max(state.changed_at, remembered.changed_at + _A_MOMENT)


def _is_or_was_there(state: ReservationState) -> bool:
    return bool(state.environment) or state.phase in (Phase.ACTIVE, Phase.RELEASED)
