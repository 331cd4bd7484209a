"""Stands before the handler, for what needs none: states that must not be touched, and states to be forgotten."""

from collections.abc import Callable
from datetime import datetime

import structlog

from consumer.dispatch import Done, Verdict, Work
from consumer.handling import publications
from consumer.handling.clock import utc_now
from consumer.handling.handler import Handler
from consumer.handling.ports import StateStore
from consumer.handling.publications import Publication
from consumer.handling.records import Item, Review
from consumer.handling.retention import Expired, Retention
from consumer.handling.sealed import Sealed
from schemas.events import ReservationEvent

log = structlog.get_logger("moorage.handling")


class Guard:
    """Handles like `handler`, apart from these two."""

    def __init__(
        self,
        handler: Handler,
        states: StateStore,
        retention: Retention,
        *,
        instance: str,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._handler = handler
        self._states = states
        self._retention = retention
        self._instance = instance
        self._now = now

    def group_of(self, work: Work[Item]) -> str | None:
        """As `Handler.group_of`; no runtime is needed for what never comes to the handler."""
        if isinstance(work.item, Expired) or self._sealed(work) is not None:
            return None
        return self._handler.group_of(work)

    async def handle(self, work: Work[Item]) -> Verdict[Publication]:
        """As `Handler.handle`. Events of a reservation whose state is sealed are dead letters, and change nothing."""
        if isinstance(work.item, Expired):
            return self._retention.handle(work)
        if (sealed := self._sealed(work)) is None:
            return await self._handler.handle(work)
        log.warning("reservation_sealed", reservation=work.key, code=sealed.code, why=sealed.message)
        if isinstance(work.item.content, Review):
            return Done()  # nobody sent anything, so there is nothing to put aside
        letter = publications.dead_letter(
            work.item.record, instance=self._instance, code=sealed.code, message=sealed.message, now=self._now()
        )
        return Done((letter,), dead_letters=1)

    def _sealed(self, work: Work[Item]) -> Sealed | None:
        match work.item.content:
            case ReservationEvent(reservation_id=reservation_id) | Review(reservation_id=reservation_id):
                pass
            case _:
                return None
        try:
            self._states.get(work.assignment, reservation_id)
        except Sealed as sealed:
            return sealed
        return None
