"""CREATED and UPDATED: the newest version of the booking counts, and what runs follows it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from consumer.reservations import Action, decide
from schemas.events import ReservationEvent, Resource, User
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
    end,
    facts,
    start,
    updated,
    version,
)

HOUR = timedelta(hours=1)
NOTED = (Action.NOTHING, Phase.PENDING, "skipped", "remembered", False)
UPDATED = (Action.NOTHING, Phase.PENDING, "updated", None, False)
RUN = (Action.PROVISION, Phase.ACTIVE, "provisioned", None, True)


def test_created_is_remembered_and_starts_nothing_even_in_its_own_time() -> None:
    assert facts(decide(None, created(), NINE)) == NOTED


def test_an_update_of_a_reservation_never_seen_is_remembered() -> None:
    decision = decide(None, updated(3), NINE)
    assert facts(decision) == UPDATED
    assert decision.state.booking_version == version(3)


def test_a_repetition_tells_the_same() -> None:
    assert facts(decide(after(created()), created(), NINE)) == NOTED
    assert facts(decide(after(updated(1)), updated(1), NINE)) == UPDATED
    assert facts(decide(active(), created(), NINE)) == (Action.NOTHING, Phase.ACTIVE, *NOTED[2:])


@pytest.mark.parametrize("change", [created, lambda: updated(9)])
def test_nothing_changes_after_the_end(change: Callable[[], ReservationEvent]) -> None:
    tombstone = after(created(), end())
    decision = decide(tombstone, change(), NINE)
    assert facts(decision) == (Action.NOTHING, Phase.RELEASED, "skipped", "already_ended", False)
    assert decision.state == tombstone


@pytest.mark.parametrize("stale", [created(), updated(1, end=END + HOUR, resource=OTHER_SERVER)])
def test_an_older_version_changes_nothing(stale: ReservationEvent) -> None:
    for state in (after(created(), updated(2)), after(created(), updated(2), start())):
        assert state is not None
        decision = decide(state, stale, NINE)
        assert facts(decision) == (Action.NOTHING, state.phase, "skipped", "stale_update", False)
        assert decision.state == state


@pytest.mark.parametrize("by", [HOUR, -HOUR / 2])
def test_another_end_of_what_runs_is_remembered_and_told(by: timedelta) -> None:
    decision = decide(active(), updated(1, end=END + by), NINE)
    assert facts(decision) == (Action.NOTHING, Phase.ACTIVE, "updated", None, True)
    assert decision.state.end == END + by


def test_an_update_of_what_does_not_matter_is_told_to_no_person() -> None:
    decision = decide(active(), updated(1, title="Lab 4"), NINE)
    assert facts(decision) == (Action.NOTHING, Phase.ACTIVE, "updated", None, False)
    assert decision.state.title == "Lab 4"


def test_a_version_that_arrives_after_the_start_corrects_its_end() -> None:
    decision = decide(after(start()), created(end=END + HOUR), NINE)
    assert facts(decision) == (Action.NOTHING, Phase.ACTIVE, "updated", None, True)


@pytest.mark.parametrize("new_end", [NINE, NINE - HOUR / 2])
def test_shortening_into_the_past_releases_but_leaves_no_tombstone(new_end) -> None:  # type: ignore[no-untyped-def]
    decision = decide(active(), updated(1, end=new_end), NINE)
    assert facts(decision) == (Action.RELEASE, Phase.PENDING, "released", "ended_by_update", True)
    assert decision.previous == active(end=new_end, booking_version=version(1), revision=decision.state.revision)
    assert decision.with_nothing_found() == decision
    assert facts(decide(decision.state, updated(2), NINE)) == RUN


def test_a_postponement_releases_and_waits_for_the_new_start() -> None:
    later = {"start": NINE + HOUR, "end": NINE + 2 * HOUR}
    decision = decide(active(), updated(1, **later), NINE)
    assert facts(decision) == (Action.RELEASE, Phase.PENDING, "released", "postponed", True)
    assert facts(decide(decision.state, updated(1, **later), NINE)) == UPDATED
    assert facts(decide(decision.state, start(), NINE + HOUR)) == RUN
    assert facts(decide(decision.state, updated(2), NINE)) == RUN


def test_a_start_moved_by_less_than_the_lead_goes_on() -> None:
    decision = decide(active(), updated(1, start=NINE + timedelta(minutes=10)), NINE)
    assert decision.action is Action.NOTHING


@pytest.mark.parametrize("change", [{"resource": OTHER_SERVER}, {"user": User(BOB.id)}])
def test_another_resource_or_owner_is_a_move(change) -> None:  # type: ignore[no-untyped-def]
    running = active()
    decision = decide(running, updated(1, end=END + HOUR, **change), NINE)
    assert facts(decision) == (Action.MOVE, Phase.ACTIVE, "provisioned", None, True)
    assert decision.previous == running
    assert decision.state.end == END + HOUR
    assert decision.state.revision != running.revision


def test_a_move_into_the_past_only_releases() -> None:
    decision = decide(active(), updated(1, end=NINE, resource=OTHER_SERVER), NINE)
    assert facts(decision) == (Action.RELEASE, Phase.PENDING, "released", "ended_by_update", True)


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.PENDING])
def test_an_update_after_the_start_was_seen_runs_what_does_not_run(phase: Phase) -> None:
    assert facts(decide(active(phase=phase), updated(1), NINE)) == RUN


@pytest.mark.parametrize(("change", "phase"), [({"end": NINE}, Phase.FAILED), ({"start": NINE + HOUR}, Phase.PENDING)])
def test_an_update_out_of_the_running_time_starts_nothing(change, phase) -> None:  # type: ignore[no-untyped-def]
    decision = decide(active(phase=Phase.FAILED), updated(1, **change), NINE)
    assert facts(decision) == (Action.NOTHING, phase, "updated", None, False)


def test_what_an_update_leaves_out_is_kept_where_it_fits() -> None:
    bare: dict[str, Any] = {"title": None, "parameters": {}, "webhook_id": None, "resource": Resource(SERVER.id)}
    state = decide(active(), updated(1, **bare), NINE).state
    assert (state.user, state.resource) == (ANN, SERVER)
    assert (state.title, state.parameters, state.webhook_id) == ("Lab 3", {"image": "nginx:1.27"}, "7")


def test_a_new_owner_inherits_nothing_of_the_old_one() -> None:
    state = decide(active(), updated(1, user=User(BOB.id), resource=OTHER_SERVER), NINE).state
    assert (state.user, state.resource) == (User(BOB.id), OTHER_SERVER)


def test_a_version_without_a_date_never_overrides_one_with_a_date() -> None:
    state = after(created(), updated(1, end=END + HOUR))
    late_duplicate = created(updated_at=None, occurred_at=END)
    assert facts(decide(state, late_duplicate, NINE))[3] == "stale_update"


def test_versions_without_dates_count_as_they_come() -> None:
    state = after(created(updated_at=None), updated(0, updated_at=None, end=END + HOUR), start())
    assert state is not None
    assert state.end == END + HOUR
    assert facts(decide(state, updated(0, updated_at=None, start=START + 9 * HOUR), NINE))[3] == "postponed"
