"""The decision table: what an event means for a reservation, given what is remembered of it and the time.

    event          remembered            means
    ------------   -------------------   -------------------------------------------------------------------
    START          RELEASED              skipped: it has ended
                   end <= now            skipped: it is over
                   version says later    skipped: too early; it stays PENDING
                   ACTIVE elsewhere      MOVE, where no version says otherwise: another resource or owner
                   anything else         PROVISION (again: the same result)
    END, DELETED   RELEASED              RELEASE again, for what a late hand may have made; the same result
                   anything else         RELEASE, and a tombstone
    UPDATED,       RELEASED              skipped: it has ended
    CREATED        newer known           skipped: stale
                   ACTIVE                end <= now: RELEASE; start in the future: RELEASE; other resource or owner:
                                         MOVE; otherwise remembered, its end is re-armed
                   START was seen        PROVISION if it is running time
                   otherwise             remembered; FAILED is PENDING again when its start is to come

Only END and DELETED leave a tombstone: a booking that was shortened into the past or moved into the future may be
changed back, and then runs again. That makes the outcome independent of the order in which events arrive.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from consumer.reservations.booking import amended, completed, first_seen, version_of
from schemas.events import EventKind, ReservationEvent
from schemas.outbound import Outcome, Reason
from schemas.state import Phase, ReservationState


class Action(Enum):
    """What has to be done to the world before the decision's state holds. SWEEP is RELEASE of which nothing is told."""

    NOTHING = auto()
    PROVISION = auto()
    RELEASE = auto()
    MOVE = auto()
    SWEEP = auto()


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, what then holds, and what to tell.

    `state` is what is remembered once `action` succeeded. For MOVE, `previous` is the state that is released first.
    `notify` says whether a person wants to know.
    """

    action: Action
    state: ReservationState
    outcome: Outcome
    reason: Reason | None = None
    notify: bool = False
    previous: ReservationState | None = None

    def with_nothing_found(self) -> "Decision":
        """This RELEASE, when it turned out that there was no environment: nothing to announce to a person.

        Where one is remembered it was there, and an earlier attempt removed it.
        """
        previous = self.previous
        known = previous is not None and (previous.phase in (Phase.ACTIVE, Phase.RELEASED) or _was_starting(previous))
        if known or self.reason is not None:
            return self
        reason = Reason(code="nothing_to_release", message=REASONS["nothing_to_release"])
        state = self.state.model_copy(update={"reason": reason})
        return replace(self, state=state, outcome=Outcome.SKIPPED, reason=reason, notify=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """`lead`: how long before its start a reservation may already run. `grace`: how long after its end an END may come.

    `self_schedule`: a booking that is known starts at its time, whether a START comes or not.
    """

    lead: timedelta = timedelta(minutes=10)
    grace: timedelta = timedelta(minutes=2)
    self_schedule: bool = False


REASONS = {
    "already_ended": "The reservation has ended; a late start, update or repetition starts nothing.",
    "already_over": "The reservation's end had passed when its start arrived.",
    "too_early": "The reservation was moved; its new start is still to come.",
    "stale_update": "A newer version of the reservation is already known.",
    "remembered": "The reservation is noted; it runs when its start event comes.",
    "nothing_to_release": "The reservation ended, and no environment of it was there.",
    "ended_by_update": "The reservation was shortened and is over.",
    "postponed": "The reservation was moved into the future.",
    "moved": "The reservation was moved to another resource or owner.",
    "ended_while_starting": "The reservation ended before its environment was ready.",
    "expired": "The reservation's end had passed and no end event came.",
    "lost": "The environment is no longer there, and nobody asked for its end.",
    "ended": "The environment's program ended by itself, before the reservation did.",
    "out_of_memory": "The environment needed more memory than its limit allows, and was ended for that.",
}


def decide(
    state: ReservationState | None, event: ReservationEvent, now: datetime, policy: Policy = Policy()
) -> Decision:
    """What `event` means for a reservation of which `state` is remembered."""
    match event.kind:
        case EventKind.START:
            return _start(state, event, now, policy)
        case EventKind.END | EventKind.DELETED:
            return _end(state, event, now)
        case EventKind.CREATED | EventKind.UPDATED:
            return _change(state, event, now, policy)


def _start(state: ReservationState | None, event: ReservationEvent, now: datetime, policy: Policy) -> Decision:
    if state is not None and state.phase is Phase.RELEASED:
        return _skip(state, "already_ended")
    known = completed(state, event, now) if state is not None else first_seen(event, now)
    known = known.model_copy(update={"start_seen": True})
    if known.end <= now:
        if state is not None and state.phase is Phase.ACTIVE and _moved(state, known):
            # It will not move there any more: until it is released, what runs is where and whose it was.
            known = completed(state, replace(event, user=state.user, resource=state.resource), now)
        return _skip(known, "already_over", notify=state is None or not state.start_seen)
    if _starts_later(known, now, policy):
        return _skip(_ahead(known), "too_early")
    return _run(state, known, now)


def _end(state: ReservationState | None, event: ReservationEvent, now: datetime) -> Decision:
    if state is not None and state.phase is Phase.RELEASED:
        return _end_again(state)
    known = state if state is not None else first_seen(event, now)
    return release(known, now, Phase.RELEASED, reason=None, notify=True)


def _end_again(state: ReservationState) -> Decision:
    """What was said of the end before. A reason that is not ours is why releasing failed then."""
    if state.reason is None or state.reason.code in REASONS:
        nothing = state.reason is not None and state.reason.code == "nothing_to_release"
        outcome = Outcome.SKIPPED if nothing else Outcome.RELEASED
        return Decision(Action.RELEASE, state, outcome, state.reason, previous=state)
    released = state.model_copy(update={"reason": None, "environment": None, "placed": None})
    return Decision(Action.RELEASE, released, Outcome.RELEASED, notify=True, previous=state)


def _change(state: ReservationState | None, event: ReservationEvent, now: datetime, policy: Policy) -> Decision:
    if state is None:
        return _noted(first_seen(event, now), event)
    if state.phase is Phase.RELEASED:
        return _skip(state, "already_ended")
    version = version_of(event)
    if state.booking_version is not None and version is not None and version < state.booking_version:
        return _skip(state, "stale_update")
    known = amended(state, event, now)
    if state.phase is Phase.ACTIVE:
        return _change_running(state, known, event, now, policy)
    if known.start_seen and known.end > now and not _starts_later(known, now, policy):
        return provision(known, now)
    return _noted(_ahead(known) if _starts_later(known, now, policy) else known, event)


def _change_running(
    state: ReservationState, known: ReservationState, event: ReservationEvent, now: datetime, policy: Policy
) -> Decision:
    if known.end <= now:
        return release(known, now, Phase.PENDING, reason="ended_by_update", notify=True)
    if _starts_later(known, now, policy):
        return release(known, now, Phase.PENDING, reason="postponed", notify=True)
    if _moved(state, known):
        return _run(state, known, now)
    if known.end != state.end:
        return Decision(Action.NOTHING, known, Outcome.UPDATED, notify=True)
    return _noted(known, event)


def interrupted(state: ReservationState, remembered: ReservationState | None) -> Decision:
    """What holds when the reservation's end came in while its environment was being made; the end is handled next.

    Where `remembered` was running already, it still is.
    """
    if remembered is not None and remembered.phase is Phase.ACTIVE:
        return _skip(remembered, "ended_while_starting")
    gone = {"phase": Phase.PENDING, "access": None, "environment": None, "notes": ()}
    return _skip(state.model_copy(update=gone), "ended_while_starting", remember=True)


def _was_starting(state: ReservationState) -> bool:
    return state.reason is not None and state.reason.code == "ended_while_starting"


def _starts_later(state: ReservationState, now: datetime, policy: Policy) -> bool:
    """Whether a version of the booking puts its start ahead of now. A START alone is taken at its word."""
    return state.booking_version is not None and state.start > now + policy.lead


def _ahead(state: ReservationState) -> ReservationState:
    """`state` with its start still to come: what failed before that was said is no reason not to run then."""
    if state.phase is not Phase.FAILED:
        return state
    return state.model_copy(update={"phase": Phase.PENDING, "reason": None})


def _moved(state: ReservationState, known: ReservationState) -> bool:
    return known.resource.id != state.resource.id or known.user.id != state.user.id


def _run(state: ReservationState | None, known: ReservationState, now: datetime) -> Decision:
    """PROVISION, or MOVE when what runs is another's or elsewhere: nobody is let into somebody else's environment."""
    decision = provision(known, now)
    if state is not None and state.phase is Phase.ACTIVE and _moved(state, known):
        return replace(decision, action=Action.MOVE, state=another_life(decision.state), previous=state)
    return decision


def provision(state: ReservationState, now: datetime) -> Decision:
    state = state.model_copy(update={"phase": Phase.ACTIVE, "reason": None, "changed_at": now})
    return Decision(Action.PROVISION, state, Outcome.PROVISIONED, notify=True)


def another_life(state: ReservationState) -> ReservationState:
    """`state` when the environment it had is over: what is told of another one has other ids."""
    return state.model_copy(update={"life": state.life + 1})


def release(state: ReservationState, now: datetime, phase: Phase, *, reason: str | None, notify: bool) -> Decision:
    why = Reason(code=reason, message=REASONS[reason]) if reason else None
    gone = {"access": None, "environment": None, "placed": None, "notes": ()}
    released = another_life(state).model_copy(update={"phase": phase, "reason": why, "changed_at": now, **gone})
    return Decision(Action.RELEASE, released, Outcome.RELEASED, why, notify=notify, previous=state)


def _noted(state: ReservationState, event: ReservationEvent) -> Decision:
    """A booking was remembered and nothing else came of it."""
    if event.kind is EventKind.CREATED:
        return _skip(state, "remembered")
    return Decision(Action.NOTHING, state, Outcome.UPDATED)


def _skip(state: ReservationState, code: str, *, notify: bool = False, remember: bool = False) -> Decision:
    reason = Reason(code=code, message=REASONS[code])
    if remember:
        state = state.model_copy(update={"reason": reason})
    return Decision(Action.NOTHING, state, Outcome.SKIPPED, reason, notify=notify)
