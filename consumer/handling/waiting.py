"""Who waits for room, in the order in which they came."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from consumer.catalog.quotas import Holding

_PATIENCE = 10.0
"""Seconds after which who has not asked again waits no longer: they do so every few."""


@dataclass(slots=True)
class _Ticket:
    number: int
    wanted: Holding
    asked_at: float


class Waiting:
    """One queue a user. Who does not come back gives up its place; nobody has to say so."""

    def __init__(self) -> None:
        self._numbers = count()
        self._queues: dict[str, dict[str, _Ticket]] = {}
        self._users: dict[str, str] = {}
        """Whose queue each reservation is in."""

    def __contains__(self, reservation_id: str) -> bool:
        return reservation_id in self._users

    def join(self, reservation_id: str, wanted: Holding, at: float) -> None:
        """Wait, or go on waiting. Who waits for something else by now waits anew."""
        ticket = self._ticket(reservation_id)
        if ticket is not None and ticket.wanted == wanted:
            ticket.asked_at = at
            return
        self.leave(reservation_id)
        self._users[reservation_id] = wanted.user
        queue = self._queues.setdefault(wanted.user, {})
        queue[reservation_id] = _Ticket(next(self._numbers), wanted, at)

    def leave(self, reservation_id: str) -> None:
        if (user := self._users.pop(reservation_id, None)) is not None:
            queue = self._queues[user]
            del queue[reservation_id]
            if not queue:
                del self._queues[user]

    def before(self, reservation_id: str, user: str, at: float) -> Iterator[tuple[str, Holding]]:
        """Who came before: all of this user, and of each other one only the first, since there may be thousands."""
        mine = self._ticket(reservation_id)
        for whose in list(self._queues):
            names = list(self._queues[whose]) if whose == user else self._first(whose, at)
            for name in names:
                ticket = self._queues[whose][name]
                if mine is not None and ticket.number >= mine.number:
                    break
                if ticket.asked_at + _PATIENCE < at:
                    self.leave(name)
                else:
                    yield name, ticket.wanted

    def _first(self, user: str, at: float) -> list[str]:
        """The first who still waits, if there is one."""
        while (queue := self._queues.get(user)) is not None:
            name, ticket = next(iter(queue.items()))
            if ticket.asked_at + _PATIENCE >= at:
                return [name]
            self.leave(name)
        return []

    def _ticket(self, reservation_id: str) -> _Ticket | None:
        user = self._users.get(reservation_id)
        return self._queues[user][reservation_id] if user is not None else None
