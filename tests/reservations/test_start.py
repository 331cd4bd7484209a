"""START: run, unless it ended, is over, or was moved away."""

from dataclasses import replace
from datetime import timedelta

import pytest

from consumer.reservations import Action, Policy, decide
from schemas.state import Phase
from tests.reservations.bookings import (
    ANN,
    BOB,
    END,
    NINE,
    OTHER_SERVER,
    SERVER,
    START,
    active,
    after,
    created,
    deleted,
    end,
    facts,
    start,
    updated,
)

RUN = (Action.PROVISION, Phase.ACTIVE, "provisioned", None, True)


def test_the_first_event_of_a_reservation_may_be_its_start() -> None:
    decision = decide(None, start(), NINE)
    assert facts(decision) == RUN
    assert decision.state.start_seen
    assert decision.state.booking_version is None
    assert decision.state.user == ANN


def test_a_start_after_created_runs_with_what_each_of_them_knows() -> None:
    state = after(created(parameters={}))
    decision = decide(state, start(), NINE)
    assert facts(decision) == RUN
    assert decision.state.user == ANN
    assert decision.state.parameters == {"image": "nginx:1.27"}
    assert decision.state.booking_version == created().updated_at


def test_a_repeated_start_asks_for_the_same_again() -> None:
    running = active()
    decision = decide(running, start(), NINE)
    assert facts(decision) == RUN
    assert decision.state.revision == running.revision


def test_a_start_after_a_failure_tries_again() -> None:
    assert facts(decide(active(phase=Phase.FAILED), start(), NINE)) == RUN


@pytest.mark.parametrize("ending", [end, deleted])
def test_a_start_after_the_end_starts_nothing(ending) -> None:  # type: ignore[no-untyped-def]
    tombstone = after(ending())
    decision = decide(tombstone, start(), NINE)
    assert facts(decision) == (Action.NOTHING, Phase.RELEASED, "skipped", "already_ended", False)
    assert decision.state == tombstone


def test_a_start_that_comes_when_it_is_over_starts_nothing_and_says_so() -> None:
    skipped = (Action.NOTHING, Phase.PENDING, "skipped", "already_over", True)
    assert facts(decide(None, start(), END)) == skipped
    assert facts(decide(after(created()), start(), END)) == skipped


def test_a_start_one_moment_before_the_end_runs() -> None:
    assert facts(decide(None, start(), END - timedelta(microseconds=1))) == RUN


def test_nobody_is_told_twice_that_it_is_over() -> None:
    state = decide(None, start(), END).state
    assert facts(decide(state, start(), END)) == (Action.NOTHING, Phase.PENDING, "skipped", "already_over", False)


def test_a_late_repetition_does_not_touch_what_still_runs() -> None:
    decision = decide(active(), start(), END)
    assert facts(decision) == (Action.NOTHING, Phase.ACTIVE, "skipped", "already_over", False)


def test_a_start_that_was_overtaken_by_a_postponement_waits() -> None:
    moved = updated(1, start=NINE + timedelta(hours=3), end=NINE + timedelta(hours=4))
    decision = decide(after(created(), moved), start(), NINE)
    assert facts(decision) == (Action.NOTHING, Phase.PENDING, "skipped", "too_early", False)
    assert decision.state.start_seen


def test_the_platform_may_send_a_start_early() -> None:
    assert facts(decide(after(created()), start(), START - timedelta(minutes=5))) == RUN


def test_a_start_earlier_than_the_lead_is_taken_at_its_word_only_without_a_version() -> None:
    early = START - timedelta(minutes=10, microseconds=1)
    assert facts(decide(None, start(), early)) == RUN
    assert facts(decide(after(created()), start(), early))[3] == "too_early"
    assert facts(decide(after(created()), start(), early, Policy(lead=timedelta(minutes=11)))) == RUN


def test_the_booking_of_a_version_counts_and_not_that_of_a_start() -> None:
    state = after(created(), updated(2, end=END + timedelta(hours=1), resource=OTHER_SERVER))
    decision = decide(state, start(end=END, resource=SERVER), NINE)
    assert decision.state.end == END + timedelta(hours=1)
    assert decision.state.resource == OTHER_SERVER


def test_without_versions_the_latest_start_has_the_booking() -> None:
    decision = decide(after(start()), start(end=END + timedelta(hours=1)), NINE)
    assert facts(decision) == RUN
    assert decision.state.end == END + timedelta(hours=1)


@pytest.mark.parametrize("change", [{"user": BOB}, {"resource": OTHER_SERVER}])
def test_a_start_for_another_owner_or_resource_never_gets_what_runs_for_the_first(change) -> None:  # type: ignore[no-untyped-def]
    running = after(start())
    decision = decide(running, start(**change), NINE)
    assert facts(decision) == (Action.MOVE, Phase.ACTIVE, "provisioned", None, True)
    assert decision.previous == running


def test_a_key_that_the_platform_did_not_look_up_this_time_is_still_known_and_a_new_one_counts() -> None:
    sparse, new = replace(ANN, ssh_public_key=None), replace(ANN, ssh_public_key="ssh-ed25519 BBBB ann")
    running = after(created(), start())

    assert decide(running, start(user=sparse), NINE).state.user.ssh_public_key == ANN.ssh_public_key
    assert decide(running, start(user=new), NINE).state.user.ssh_public_key == new.ssh_public_key


@pytest.mark.parametrize("change", [{"user": BOB}, {"resource": OTHER_SERVER}])
def test_a_start_that_is_over_does_not_make_what_runs_another_s(change) -> None:  # type: ignore[no-untyped-def]
    """Or the next START for them would find it running, and let them in."""
    running = after(start())
    over = decide(running, start(end=NINE, **change), NINE)
    assert facts(over)[:4] == (Action.NOTHING, Phase.ACTIVE, "skipped", "already_over")
    assert (over.state.user, over.state.resource, over.state.end) == (ANN, SERVER, NINE)
    assert decide(over.state, start(**change), NINE).action is Action.MOVE
