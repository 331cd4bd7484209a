"""What time alone means for a reservation: nobody sent an event, but somebody has to do something.

remembered            and now                             means
------------------   ---------------------------------   ----------------------------------------------------
ACTIVE               its end and the grace are over      RELEASE: no END came; PENDING, so an extension may follow
ACTIVE               one is on another runtime too       SWEEP: a crash left it there; its own environment stays
ACTIVE               its environment is gone, too early  lost: FAILED, or PROVISION where the template says so
PENDING              its start has come, START was seen  PROVISION: it was moved, and the platform sends no other
PENDING              its start has come, self-scheduled  PROVISION: START may never come
anything but ACTIVE  an environment of it is there, or   SWEEP: it is left over, and nothing is told
                     one is owed that could not be removed,
                     or was placed and is not being made
"""

from dataclasses import dataclass
from datetime import datetime

from consumer.reservations.decision import REASONS, Action, Decision, Policy, another_life, provision, release
from schemas.outbound import Outcome, Reason
from schemas.state import Phase, ReservationState
from schemas.state_index import StateIndex, index_of


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a look at the runtimes showed: whether an environment of the reservation is there, and whether it runs.

    Of one that ended, with which exit code, and whether that was for want of memory, where the runtime tells. For an
    ACTIVE one `runs` is about the runtime it is remembered on, and `strays` tells of environments on others.
    """

    exists: bool
    runs: bool
    exit_code: int | None = None
    out_of_memory: bool = False
    strays: bool = False


def due_at(index: StateIndex, now: float, policy: Policy) -> float | None:
    """When a reservation has to be looked at although no event came; None for never. Times are Unix seconds.

    A booking that only a flat START told of has no start of its own: it ran when that came.
    """
    match index.phase:
        case Phase.ACTIVE:
            return index.end + policy.grace.total_seconds()
        case Phase.PENDING if now < index.end and index.versioned and (index.start_seen or policy.self_schedule):
            return index.start - policy.lead.total_seconds()
        case _:
            return None


def review(
    state: ReservationState, sighting: Sighting | None, now: datetime, policy: Policy, *, restart: bool = False
) -> Decision | None:
    """What is to be done for a reservation at this time; None for nothing.

    `sighting` is None when nobody looked. `restart`: an environment that was lost is made again.
    """
    if state.phase is Phase.ACTIVE:
        if state.end + policy.grace <= now:
            ended = release(state, now, Phase.PENDING, reason="expired", notify=True)
            return Decision(Action.RELEASE, ended.state, Outcome.EXPIRED, ended.reason, True, state)
        if sighting is not None and sighting.runs and sighting.strays:
            return Decision(Action.SWEEP, state, Outcome.RELEASED)
        if sighting is None or sighting.runs or state.end <= now:
            return None
        return provision(state, now) if restart else _lost(state, sighting, now)
    if sighting is not None and (sighting.exists or state.environment or state.placed):
        swept = state.model_copy(update={"environment": None, "placed": None})
        return Decision(Action.SWEEP, swept, Outcome.RELEASED)
    due = due_at(index_of(state), now.timestamp(), policy)
    if due is not None and due <= now.timestamp():
        return provision(state.model_copy(update={"start_seen": True}), now)
    return None


def _lost(state: ReservationState, sighting: Sighting, now: datetime) -> Decision:
    reason = _why(sighting)
    gone = {
        "phase": Phase.FAILED,
        "reason": reason,
        "access": None,
        "environment": None,
        "placed": None,
        "notes": (),
        "changed_at": now,
    }
    return Decision(Action.RELEASE, another_life(state).model_copy(update=gone), Outcome.FAILED, reason, True, state)


def _why(sighting: Sighting) -> Reason:
    if sighting.out_of_memory:
        return Reason(code="out_of_memory", message=REASONS["out_of_memory"])
    if sighting.exists and sighting.exit_code is not None:
        code = f" with exit code {sighting.exit_code}." if sighting.exit_code else "."
        return Reason(code="ended", message=REASONS["ended"].removesuffix(".") + code)
    return Reason(code="lost", message=REASONS["lost"])
