"""What time alone means: when a reservation is looked at, and what comes of it."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.reservations import Action, Policy, Sighting, decide, due_at, review
from schemas.state import Phase, ReservationState
from schemas.state_index import index_of
from tests.reservations.bookings import (
    END,
    NINE,
    POLICY,
    START,
    active,
    after,
    created,
    end,
    facts,
    restored,
    start,
    updated,
)
from tests.reservations.test_permutations import World, histories

GRACE, LEAD = POLICY.grace, POLICY.lead
HOUR, MINUTE, MOMENT = timedelta(hours=1), timedelta(minutes=1), timedelta(microseconds=1)
ITSELF = Policy(self_schedule=True)
GONE, STOPPED, RUNS = Sighting(exists=False, runs=False), Sighting(exists=True, runs=False), Sighting(True, True)

EXPIRED = (Action.RELEASE, Phase.PENDING, "expired", "expired", True)
LOST = (Action.RELEASE, Phase.FAILED, "failed", "lost", True)
PROVISIONED = (Action.PROVISION, Phase.ACTIVE, "provisioned", None, True)


def postponed(by: timedelta = 4 * HOUR) -> ReservationState:
    """One that ran, and waits for its new start."""
    state = after(created(), start(), updated(1, start=START + by, end=END + by))
    assert state is not None
    assert state.phase is Phase.PENDING
    return state


def noted() -> ReservationState:
    state = after(created())
    assert state is not None
    return state


def due(state: ReservationState, now: datetime = NINE, policy: Policy = POLICY) -> datetime | None:
    moment = due_at(index_of(state), now.timestamp(), policy)
    return None if moment is None else datetime.fromtimestamp(moment, now.tzinfo)


# When


def test_what_runs_is_due_when_its_grace_is_over() -> None:
    assert due(active()) == END + GRACE


def test_what_was_postponed_is_due_a_lead_before_its_start() -> None:
    assert due(postponed()) == START + 4 * HOUR - LEAD


def test_what_never_saw_a_start_is_due_only_for_a_scheduler_of_its_own() -> None:
    assert due(noted()) is None
    assert due(noted(), policy=ITSELF) == START - LEAD


def test_what_only_a_start_told_of_and_does_not_run_is_never_due() -> None:
    over = decide(None, start(), END).state
    assert due(over) is None
    assert due(over, policy=ITSELF) is None


@pytest.mark.parametrize("phase", [Phase.RELEASED, Phase.FAILED])
def test_what_is_settled_is_never_due(phase: Phase) -> None:
    assert due(active(phase=phase), policy=ITSELF) is None


def test_what_is_over_is_not_due_any_more() -> None:
    assert due(postponed(), now=END + 4 * HOUR) is None


# What


def test_nothing_is_done_before_the_grace_is_over() -> None:
    assert review(active(), None, END + GRACE - MOMENT, POLICY) is None


@pytest.mark.parametrize("sighting", [None, GONE, STOPPED, RUNS])
@pytest.mark.parametrize("restart", [False, True])
def test_what_nobody_ended_expires_whatever_is_seen_of_it(sighting: Sighting | None, restart: bool) -> None:
    running = active()
    decision = review(running, sighting, END + GRACE, POLICY, restart=restart)
    assert decision is not None
    assert facts(decision) == EXPIRED
    assert decision.previous == running
    assert (decision.state.environment, decision.state.access) == (None, None)
    assert decision.with_nothing_found() == decision


def test_what_expired_runs_again_when_it_is_extended() -> None:
    expired = review(active(), None, END + GRACE, POLICY)
    assert expired is not None
    assert facts(decide(expired.state, updated(1, end=END + 2 * HOUR), END + 3 * MINUTE)) == PROVISIONED


def test_a_start_that_comes_again_after_the_expiry_starts_nothing() -> None:
    expired = review(active(), None, END + GRACE, POLICY)
    assert expired is not None
    assert facts(decide(expired.state, start(), END + 3 * MINUTE))[:4] == (
        Action.NOTHING,
        Phase.PENDING,
        "skipped",
        "already_over",
    )


@pytest.mark.parametrize("sighting", [GONE, STOPPED])
def test_what_is_gone_is_lost_or_made_again(sighting: Sighting) -> None:
    running = active()
    lost = review(running, sighting, NINE, POLICY)
    assert lost is not None
    assert facts(lost) == LOST
    assert lost.with_nothing_found() == lost
    again = review(running, sighting, NINE, POLICY, restart=True)
    assert again is not None
    assert facts(again) == PROVISIONED
    assert again.state.revision == running.revision


@pytest.mark.parametrize("restart", [False, True])
def test_what_is_gone_when_it_is_over_is_left_to_its_end(restart: bool) -> None:
    assert review(active(), GONE, END, POLICY, restart=restart) is None


@pytest.mark.parametrize("sighting", [None, RUNS])
def test_what_runs_is_left_alone(sighting: Sighting | None) -> None:
    assert review(active(), sighting, NINE, POLICY, restart=True) is None


@pytest.mark.parametrize("sighting", [STOPPED, RUNS])
@pytest.mark.parametrize("environment", [None, "r-ann"])
@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.FAILED, Phase.RELEASED])
def test_what_should_not_be_there_is_swept_and_nothing_told(
    phase: Phase, environment: str | None, sighting: Sighting
) -> None:
    state = active(phase=phase, environment=environment)
    decision = review(state, sighting, NINE, POLICY)
    assert decision is not None
    assert (decision.action, decision.notify) == (Action.SWEEP, False)
    assert decision.state == state.model_copy(update={"environment": None})


def test_what_could_not_be_removed_is_owed_until_somebody_looked() -> None:
    owed = active(phase=Phase.RELEASED)
    assert review(owed, None, NINE, POLICY) is None
    seen = review(owed, GONE, NINE, POLICY)
    assert seen is not None
    assert review(seen.state, GONE, NINE, POLICY) is None


def test_what_was_postponed_starts_at_its_time() -> None:
    begins = START + 4 * HOUR - LEAD
    assert review(postponed(), None, begins - MOMENT, POLICY) is None
    for sighting in (None, GONE):
        decision = review(postponed(), sighting, begins, POLICY)
        assert decision is not None
        assert facts(decision) == PROVISIONED


def test_a_scheduler_of_its_own_remembers_that_it_started() -> None:
    decision = review(noted(), None, NINE, ITSELF)
    assert decision is not None
    assert facts(decision) == PROVISIONED
    assert decision.state.start_seen


# Always

minutes = st.integers(-200, 400).map(lambda number: NINE + number * MINUTE)
policies = st.builds(
    Policy, st.integers(0, 30).map(lambda n: n * MINUTE), st.integers(0, 30).map(lambda n: n * MINUTE), st.booleans()
)
sightings = st.sampled_from([None, GONE, STOPPED, RUNS])


@st.composite
def states(draw: st.DrawFn) -> ReservationState:
    world = World()
    for each in draw(histories().filter(bool)):
        world.handle(each, draw(minutes))
    assert world.state is not None
    phase = draw(st.sampled_from(Phase))
    return world.state if draw(st.booleans()) else world.state.model_copy(update={"phase": phase})


@given(states(), sightings, minutes, policies, st.booleans())
def test_nothing_is_made_for_what_has_ended(
    state: ReservationState, sighting: Sighting | None, now: datetime, policy: Policy, restart: bool
) -> None:
    decision = review(state, sighting, now, policy, restart=restart)
    if decision is not None and decision.action is Action.PROVISION:
        assert state.phase in (Phase.ACTIVE, Phase.PENDING)
        assert state.end > now
        assert decision.state.phase is Phase.ACTIVE


@given(states(), minutes, policies)
def test_what_is_due_comes_to_something_and_what_is_not_comes_to_nothing(
    state: ReservationState, now: datetime, policy: Policy
) -> None:
    moment = due(state, now, policy)
    decision = review(state, None, now, policy)
    assert (decision is not None) == (moment is not None and moment <= now)


@given(states(), minutes, policies)
def test_waiting_for_what_is_due_is_never_in_vain(state: ReservationState, now: datetime, policy: Policy) -> None:
    moment = due(state, now, policy)
    if moment is not None and moment > now and moment < state.end:
        assert review(state, None, moment, policy) is not None


@given(states(), sightings, minutes, policies, st.booleans())
def test_what_was_reviewed_is_not_due_again_at_once(
    state: ReservationState, sighting: Sighting | None, now: datetime, policy: Policy, restart: bool
) -> None:
    decision = review(state, sighting, now, policy, restart=restart)
    if decision is not None and decision.action is not Action.SWEEP:
        moment = due(decision.state, now, policy)
        assert moment is None or moment > now


@given(states(), sightings, minutes, policies, st.booleans())
def test_only_a_lost_or_expired_one_is_released_and_an_end_stays_an_end(
    state: ReservationState, sighting: Sighting | None, now: datetime, policy: Policy, restart: bool
) -> None:
    decision = review(state, sighting, now, policy, restart=restart)
    if decision is not None and decision.action is Action.RELEASE:
        assert state.phase is Phase.ACTIVE
    if decision is not None and state.phase is Phase.RELEASED:
        gone = state.model_copy(update={"environment": None})
        assert (decision.action, decision.state) == (Action.SWEEP, gone)


@given(states(), sightings, minutes, policies, st.booleans())
def test_a_review_means_the_same_after_a_restart(
    state: ReservationState, sighting: Sighting | None, now: datetime, policy: Policy, restart: bool
) -> None:
    again = restored(state)
    assert again is not None
    assert review(again, sighting, now, policy, restart=restart) == review(
        state, sighting, now, policy, restart=restart
    )


def test_an_end_after_the_expiry_leaves_a_tombstone() -> None:
    expired = review(active(), None, END + GRACE, POLICY)
    assert expired is not None
    decision = decide(expired.state, end(), END + 3 * MINUTE).with_nothing_found()
    assert facts(decision)[1:4] == (Phase.RELEASED, "skipped", "nothing_to_release")
