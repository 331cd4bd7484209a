"""END and DELETED: absent afterwards, whatever the clock says, and a tombstone."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from consumer.reservations import REASONS, Action, decide
from schemas.events import ReservationEvent, User
from schemas.outbound import Reason
from schemas.state import Phase
from tests.reservations.bookings import ANN, END, NINE, START, active, after, created, deleted, end, facts, start

RELEASE = (Action.RELEASE, Phase.RELEASED, "released", None, True)

either = pytest.mark.parametrize("ending", [end, deleted])
Ending = Callable[..., ReservationEvent]


@either
@pytest.mark.parametrize("now", [START - timedelta(days=1), NINE, END + timedelta(days=1)])
def test_an_end_releases_what_runs_whatever_the_clock_says(ending: Ending, now) -> None:  # type: ignore[no-untyped-def]
    running = active()
    decision = decide(running, ending(), now)
    assert facts(decision) == RELEASE
    assert decision.previous == running
    assert decision.state.access is None
    assert decision.state.environment is None
    assert decision.state.revision == running.revision


@either
@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.FAILED])
def test_an_end_leaves_a_tombstone_of_what_never_ran(ending: Ending, phase: Phase) -> None:
    assert facts(decide(active(phase=phase), ending(), NINE)) == RELEASE


def test_an_end_of_a_reservation_never_seen_leaves_a_tombstone() -> None:
    decision = decide(None, end(), NINE)
    assert facts(decision) == RELEASE
    assert decision.state.user == ANN


def test_a_deletion_never_seen_before_needs_neither_name_nor_parameters() -> None:
    decision = decide(None, deleted(), NINE)
    assert facts(decision) == RELEASE
    assert decision.state.user == User(ANN.id)
    assert decision.state.parameters == {}
    assert decision.state.booking_version is None


@either
def test_finding_nothing_is_told_as_skipped_and_to_nobody(ending: Ending) -> None:
    for state in (None, after(created()), active(phase=Phase.FAILED)):
        decision = decide(state, ending(), NINE).with_nothing_found()
        assert facts(decision)[1:] == (Phase.RELEASED, "skipped", "nothing_to_release", False)
        assert decision.state.reason == decision.reason


@either
def test_what_was_announced_is_told_as_released_even_if_it_is_gone_already(ending: Ending) -> None:
    decision = decide(active(), ending(), NINE)
    assert decision.with_nothing_found() == decision


@either
def test_a_repeated_end_makes_sure_once_more_and_tells_the_same(ending: Ending) -> None:
    tombstone = decide(active(), ending(), NINE).state
    again = decide(tombstone, ending(), NINE)
    assert facts(again) == (Action.RELEASE, Phase.RELEASED, "released", None, False)
    assert again.state == tombstone
    assert again.with_nothing_found() == again


@either
def test_a_repeated_end_of_what_never_ran_is_skipped_again(ending: Ending) -> None:
    tombstone = decide(None, ending(), NINE).with_nothing_found().state
    again = decide(tombstone, ending(), NINE)
    assert facts(again) == (Action.RELEASE, Phase.RELEASED, "skipped", "nothing_to_release", False)
    assert again.state == tombstone
    assert again.with_nothing_found() == again


def test_an_end_that_could_not_be_carried_out_is_carried_out_when_it_comes_again() -> None:
    owed = active(phase=Phase.RELEASED, reason=Reason(code="release_timeout", message="later"))
    again = decide(owed, end(), NINE)
    assert facts(again) == RELEASE
    assert again.previous == owed
    assert again.state.reason is None
    assert again.state.environment is None


def test_an_end_does_not_change_the_booking() -> None:
    running = after(start())
    decision = decide(running, end(start=START - timedelta(hours=9), end=END + timedelta(hours=9)), NINE)
    assert running is not None
    assert (decision.state.start, decision.state.end) == (running.start, running.end)
    assert decision.state.revision == running.revision


def test_every_reason_is_a_sentence() -> None:
    assert all(message[0].isupper() and message.endswith(".") for message in REASONS.values())
