"""What is in use, counted as it changes, and who may have more of it.

A reservation counts from the moment at which its environment begins to be made. What it counts for is, whichever is
there first:

1. its claim, while it is being made: what it will have;
2. its state, if it is remembered here: what it has, or what could not be removed;
3. its environment, if that was seen on a runtime: another member remembers it, or it is left over.

There is no await between looking and claiming, so one member never overshoots. Several know of each other's
environments what the last look at the runtimes has shown.
"""

from collections.abc import Iterable
from typing import NamedTuple

from consumer.catalog.errors import Refused
from consumer.catalog.quotas import Account, Bound, Holding, QuotaRules, Usage, refusal
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
    """Counts nothing where nothing is bounded."""

    def __init__(self, rules: QuotaRules) -> None:
        self._rules = rules
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
            holding = Holding(index.user_id, index.template, usage)
            counted = _Counted(holding, partition, owed=index.phase is not Phase.ACTIVE)
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

    def observe(self, environments: Iterable[Environment]) -> None:
        """Count all that was seen since `begin_look`, and nothing that was seen before.

        What had ended and could not be removed counts no more once it is gone.
        """
        if not self.bounded:
            return
        changed, self._changed = self._changed or set(), None
        seen = {each.reservation_id: each for each in environments}
        for name in [name for name, each in self._states.items() if each.owed and name not in seen]:
            self._set(self._states, name, None)
        others = {name for name in seen if name not in self._states and name not in changed}
        for name in self._seen.keys() - others - changed:
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
            complaint = self._complaint(reservation_id, wanted)
            if complaint is None and self._is_next_to_others(reservation_id, wanted, at):
                complaint = _AHEAD
            if complaint is not None:
                raise self._wait(reservation_id, wanted, refusal(complaint), at)
        self._waiting.leave(reservation_id)
        self._set(self._claims, reservation_id, _Counted(wanted))

    def waits(self, reservation_id: str) -> bool:
        """Whether it stands in the queue already."""
        return reservation_id in self._waiting

    def settle(self, reservation_id: str, *, waits: bool = False) -> None:
        """What was claimed was made, or not: from now on the state counts. Unless it `waits`, it leaves the queue."""
        self._set(self._claims, reservation_id, None)
        if not waits:
            self._waiting.leave(reservation_id)

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
        )

    def _complaint(self, reservation_id: str, wanted: Holding) -> str | None:
        lacking = self._lacking(reservation_id, wanted)
        return lacking[0][1] if lacking else None

    def _lacking(self, reservation_id: str, wanted: Holding, beside: Holding | None = None) -> list[tuple[Bound, str]]:
        """The quotas that have no room for it, and what they say; `beside` counts as well."""
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
                lacking.append((bound, complaint))
        return lacking

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
            elif any(each.account.user is not None and each.account in wanted.accounts for each, _ in lacking):
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
    return index.phase is Phase.ACTIVE or index.environment


def _holding_of(environment: Environment) -> Holding:
    usage = Usage(1, environment.cpu_millis or 0, environment.memory_bytes or 0)
    return Holding(environment.user_id or environment.user or "", environment.template, usage)
