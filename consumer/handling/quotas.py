"""What is in use, counted as it changes, and who may have more of it.

A reservation counts from the moment at which its environment begins to be made. What it counts for is, whichever is
there first:

1. its claim, while it is being made: what it will have;
2. its state, if it is remembered here: what it has, or what could not be removed;
3. its environment, if that was seen on a runtime: another member remembers it, or it is left over.

There is no await between looking and claiming, so one member never overshoots. Several know of each other's
environments what the last look at the runtimes has shown.

What engines of a pool hold is counted in the same way, and the least used one is the next.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from consumer.catalog.errors import Refused
from consumer.catalog.quotas import Account, Holding, QuotaRules, Usage, full, refusal
from consumer.handling.errors import Queued
from consumer.handling.ports import Environment
from consumer.handling.tally import Tally
from consumer.handling.waiting import Waiting
from schemas.state import Phase
from schemas.state_index import StateIndex

_AHEAD = "Earlier reservations wait for the room there is: try again later, or end another reservation first."


class _Counted(NamedTuple):
    """A holding and where it is known from. `owed`: it has ended, but could not be removed."""

    holding: Holding
    partition: int | None = None
    owed: bool = False


class Ledger:
    """Counts nothing where nothing is bounded. `is_shut` tells of a runtime that it does not answer just now."""

    def __init__(self, rules: QuotaRules, *, is_shut: Callable[[str], bool] = lambda runtime: False) -> None:
        self._rules = rules
        self._is_shut = is_shut
        self.bounded = bool(rules)
        self._claims: dict[str, _Counted] = {}
        self._states: dict[str, _Counted] = {}
        self._seen: dict[str, _Counted] = {}
        self._changed: set[str] | None = None
        """What has changed since a look began that is still going on: what that shows of it may be out of date."""

        self._tally = Tally()
        self._waiting = Waiting()

    def used(self, user: str | None = None, template: str | None = None) -> Usage:
        """What is in use, of a user, of a template, or of both."""
        return self._tally.used(Account(user, template))

    # What is known

    def concerns(self, reservation_id: str, index: StateIndex) -> bool:
        """Whether this state changes anything here."""
        if not self.bounded:
            return False
        return _holds(index) or reservation_id in self._states or reservation_id in self._seen

    def remember(self, partition: int, reservation_id: str, index: StateIndex) -> None:
        """Count a reservation by its newest state."""
        if not self.bounded:
            return
        if self._changed is not None:
            self._changed.add(reservation_id)
        counted = None
        if _holds(index):
            usage = Usage(1, index.cpu_millis, index.memory_bytes)
            holding = Holding(index.user_id, index.template, usage, _where(index))
            owed = index.phase is not Phase.ACTIVE and index.placed is None
            counted = _Counted(holding, partition, owed=owed)
        self._set(self._states, reservation_id, counted)
        self._set(self._seen, reservation_id, None)

    def restore(self, partition: int, reservation_id: str, index: StateIndex) -> None:
        """As `remember`, when a partition is taken over. What was seen of one that has yet to start was just made."""
        if index.phase is Phase.PENDING and not index.environment and reservation_id in self._seen:
            self._set(self._states, reservation_id, None)
        else:
            self.remember(partition, reservation_id, index)

    def forget(self, partition: int) -> None:
        """It is another member's from now on; what runs there goes on counting until the next look."""
        for reservation_id in [name for name, each in self._states.items() if each.partition == partition]:
            self._seen[reservation_id] = _Counted(self._states.pop(reservation_id).holding)

    def begin_look(self) -> None:
        """Somebody begins to look at what runs."""
        self._changed = set() if self.bounded else None

    def observe(self, environments: Iterable[Environment], silent: Collection[str] = ()) -> None:
        """Count all that was seen since `begin_look`, and nothing that was seen before, but on `silent` runtimes.

        What had ended and could not be removed counts no more once it is gone.
        """
        if not self.bounded:
            return
        changed, self._changed = self._changed or set(), None
        seen = {each.reservation_id: each for each in environments}
        gone = [name for name, each in self._states.items() if each.owed and name not in seen]
        for name in [name for name in gone if not _is_hidden(self._states[name].holding, silent)]:
            self._set(self._states, name, None)
        others = {name for name in seen if name not in self._states and name not in changed}
        for name in self._seen.keys() - others - changed:
            if not _is_hidden(self._seen[name].holding, silent):
                self._set(self._seen, name, None)
        for name in others:
            self._set(self._seen, name, _Counted(_holding_of(seen[name])))

    def vacate(self, reservation_id: str) -> None:
        """The environment that is remembered of it is gone, whatever else becomes of the reservation."""
        if self._changed is not None:
            self._changed.add(reservation_id)
        self._set(self._states, reservation_id, None)
        self._set(self._seen, reservation_id, None)

    # Claims

    def claim(self, reservation_id: str, wanted: Holding, *, at: float, exists: bool = False) -> None:
        """Count `wanted` for this reservation until `settle`. `at` is the loop's time.

        Raises `Refused`, or `Queued` where a start waits, when there is no room. What takes no more than the
        reservation counts for already needs none, nor does what `exists`.
        """
        if not self.bounded:
            return
        if not exists and not self._has(reservation_id, wanted):
            if (complaint := self._rules.too_large(wanted)) is not None:
                raise refusal(complaint)
            if (why := self._in_the_way(reservation_id, wanted, at)) is not None:
                raise self._wait(reservation_id, wanted, why, at)
        self._waiting.leave(reservation_id)
        self._set(self._claims, reservation_id, _Counted(wanted))

    def claim_one(self, reservation_id: str, wanted: Holding, *, at: float, exists: bool = False) -> str:
        """As `claim`, on the one of the runtimes of `wanted` that is used least, which is returned.

        Of several that are, each reservation has its own favourite: so members that do not know of each other's starts
        choose differently for different ones, and the same for the same.
        """
        self.claim(reservation_id, wanted, at=at, exists=exists)
        chosen = min(self._answering(wanted.runtimes), key=lambda name: (self._load(name), _rank(reservation_id, name)))
        self._set(self._claims, reservation_id, _Counted(wanted._replace(runtimes=(chosen,))))
        return chosen

    def ask_again(self, reservation_id: str, wanted: Holding, *, at: float) -> None:
        """Raise `Queued` for one that stands in the queue and would be sent back there by `claim`."""
        if not self.bounded or not self.waits(reservation_id):
            return
        if (why := self._in_the_way(reservation_id, wanted, at)) is not None:
            raise self._wait(reservation_id, wanted, why, at)

    def waits(self, reservation_id: str) -> bool:
        """Whether it stands in the queue already."""
        return reservation_id in self._waiting

    def settle(self, reservation_id: str, *, waits: bool = False) -> None:
        """What was claimed was made, or not: from now on the state counts. Unless it `waits`, it leaves the queue."""
        self._set(self._claims, reservation_id, None)
        if not waits:
            self._waiting.leave(reservation_id)

    def _in_the_way(self, reservation_id: str, wanted: Holding, at: float) -> Refused | None:
        """What speaks against it at this moment."""
        if lacking := self._lacking(reservation_id, wanted):
            return lacking[0][1]
        return refusal(_AHEAD) if self._is_next_to_others(reservation_id, wanted, at) else None

    def _wait(self, reservation_id: str, wanted: Holding, why: Refused, at: float) -> Refused | Queued:
        if not self._rules.queues(wanted.template):
            return why
        again = self.waits(reservation_id)
        self._waiting.join(reservation_id, wanted, at)
        return Queued(why.code, why.message, again=again)

    def _has(self, reservation_id: str, wanted: Holding) -> bool:
        has = self._counted(reservation_id)
        return (
            has is not None
            and (has.user, has.template) == (wanted.user, wanted.template)
            and wanted.usage.within(has.usage)
            and self._is_there(has, wanted)
        )

    def _is_there(self, has: Holding, wanted: Holding) -> bool:
        """Whether it needs no room on any engine that it does not have already."""
        if not self._rules.capacities.keys() & {*wanted.runtimes}:
            return True
        return len(wanted.runtimes) == 1 and has.runtimes in ((), wanted.runtimes)

    def _lacking(
        self, reservation_id: str, wanted: Holding, beside: Holding | None = None
    ) -> list[tuple[Account, Refused]]:
        """What has no room for it, quotas first, and what they say; `beside` counts as well."""
        has = self._counted(reservation_id)
        mine = has.accounts if has is not None else ()
        others = beside.accounts if beside is not None else ()
        lacking = []
        for bound in self._rules.bounds(wanted):
            used = self._tally.used(bound.account)
            if has is not None and bound.account in mine:
                used = used.minus(has.usage)
            if beside is not None and bound.account in others:
                used = used.plus(beside.usage)
            if (complaint := bound.complaint(used, wanted.usage)) is not None:
                lacking.append((bound.account, refusal(complaint)))
        if not self._hold(wanted.runtimes, has, beside):
            lacking.append((Account(None, None), full()))
        return lacking

    def _hold(self, runtimes: Collection[str], has: Holding | None, beside: Holding | None) -> bool:
        """Whether one of these has room, not counting what it `has`, and counting `beside` where that may go too."""
        capacities = self._rules.capacities
        if not runtimes or not capacities.keys() >= {*runtimes}:
            return True
        free = 0
        for name in self._answering(runtimes):
            mine = has is not None and has.runtimes == (name,)
            free += max(0, capacities[name] - self._used_on(name) + mine)
        if beside is not None and {*beside.runtimes} & {*runtimes}:
            free -= 1
        return free > 0

    def _answering(self, runtimes: Collection[str]) -> Collection[str]:
        """Those that are not shut; all of them, if none answers: then it is waited for there."""
        return [name for name in runtimes if not self._is_shut(name)] or runtimes

    def _used_on(self, runtime: str) -> int:
        return self._tally.used(Account(None, None, runtime)).environments

    def _load(self, runtime: str) -> float:
        """What of its capacity is in use."""
        return self._used_on(runtime) / self._rules.capacities[runtime]

    def _is_next_to_others(self, reservation_id: str, wanted: Holding, at: float) -> bool:
        """Whether somebody came before it, to whom it must not do harm.

        That is whoever has room now, and would have none beside it; and whoever waits for their own quota, from which
        it would take. Who waits for others' environments to end, because the quota of all is used up, holds nobody
        up who needs less: otherwise one that asks for much would stop everybody.
        """
        for name, theirs in self._waiting.before(reservation_id, wanted.user, at):
            lacking = self._lacking(name, theirs)
            if not lacking:
                if self._lacking(name, theirs, beside=wanted):
                    return True
            elif any(each.user is not None and each in wanted.accounts for each, _ in lacking):
                return True
        return False

    # Counting

    def _counted(self, reservation_id: str) -> Holding | None:
        """What a reservation counts for."""
        for known in (self._claims, self._states, self._seen):
            if (counted := known.get(reservation_id)) is not None:
                return counted.holding
        return None

    def _set(self, known: dict[str, _Counted], reservation_id: str, counted: _Counted | None) -> None:
        if counted is None and reservation_id not in known:
            return
        before = self._counted(reservation_id)
        if counted is None:
            known.pop(reservation_id, None)
        else:
            known[reservation_id] = counted
        after = self._counted(reservation_id)
        if after == before:
            return
        if before is not None:
            self._tally.remove(before)
        if after is not None:
            self._tally.add(after)


def _holds(index: StateIndex) -> bool:
    """Whether a reservation in this state has an environment, or may have."""
    return index.phase is Phase.ACTIVE or index.environment or index.placed is not None


def _where(index: StateIndex) -> tuple[str, ...]:
    """Its runtime; none where that is not known."""
    runtime = index.placed or index.runtime
    return (runtime,) if runtime else ()


def _is_hidden(holding: Holding, silent: Collection[str]) -> bool:
    """Whether it may be on one of these runtimes, which did not say."""
    return bool(silent) and (not holding.runtimes or any(name in silent for name in holding.runtimes))


def _rank(reservation_id: str, runtime: str) -> bytes:
    """The order in which a reservation prefers runtimes (rendezvous hashing): another one for each reservation."""
    return hashlib.sha256(f"{reservation_id}\xff{runtime}".encode()).digest()


def _holding_of(environment: Environment) -> Holding:
    usage = Usage(1, environment.cpu_millis or 0, environment.memory_bytes or 0)
    user = environment.user_id or environment.user or ""
    return Holding(user, environment.template, usage, (environment.runtime,))
