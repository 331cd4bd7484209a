"""Whatever the order and however often events arrive, what holds in the end is the same."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumer.reservations import Action, Decision, decide
from schemas.events import EventKind, ReservationEvent, User
from schemas.state import Phase, ReservationState
from tests.reservations.bookings import (
    ANN,
    BOB,
    NINE,
    OTHER_SERVER,
    POLICY,
    SERVER,
    created,
    deleted,
    end,
    restored,
    start,
    updated,
    version,
)

ENDINGS = (EventKind.END, EventKind.DELETED)
VERSIONS = (EventKind.CREATED, EventKind.UPDATED)
MINUTE = timedelta(minutes=1)


@dataclass
class World:
    """What is remembered and what exists, if everything works."""

    state: ReservationState | None = None
    exists: tuple[str, str] | None = None

    def handle(self, event: ReservationEvent, now: datetime) -> Decision:
        decision = decide(self.state, event, now, POLICY)
        self.state = decision.state
        match decision.action:
            case Action.PROVISION | Action.MOVE:
                self.exists = (decision.state.resource.id, decision.state.user.id)
            case Action.RELEASE:
                self.exists = None
        return decision


@st.composite
def bookings(draw: st.DrawFn) -> dict[str, Any]:
    starts = draw(st.integers(-120, 60))
    return {
        "start": NINE + starts * MINUTE,
        "end": NINE + draw(st.integers(starts + 1, 180)) * MINUTE,
        "user": User(draw(st.sampled_from([ANN.id, BOB.id]))),
        "resource": draw(st.sampled_from([SERVER, OTHER_SERVER])),
    }


@st.composite
def histories(draw: st.DrawFn) -> list[ReservationEvent]:
    """All that was ever sent about one reservation, in no order, repetitions included."""
    first, *others = draw(st.lists(bookings(), min_size=1, max_size=4))
    events = [updated(number, **booking) for number, booking in enumerate(others, 1)]
    if draw(st.booleans()):
        events.append(created(**first))
    if draw(st.booleans()):
        events.append(start(**draw(st.sampled_from([first, *others]))))
    if draw(st.integers(0, 4)) == 0:
        events.append(draw(st.sampled_from([end, deleted]))(**first))
    repeated = draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
    events += [replace(event, occurred_at=event.occurred_at + timedelta(hours=1)) for event in repeated]
    return draw(st.permutations(events))


def expected(events: list[ReservationEvent]) -> tuple[Phase, tuple[str, str] | None]:
    """The model: released if it ever ended, else running if it was started and its newest booking says so."""
    if any(event.kind in ENDINGS for event in events):
        return Phase.RELEASED, None
    starts = [event for event in events if event.kind is EventKind.START]
    versions = [event for event in events if event.kind in VERSIONS]
    booking = max(versions, key=lambda event: event.updated_at or version(-1)) if versions else starts[-1]
    in_time = booking.end > NINE and (not versions or booking.start <= NINE + POLICY.lead)
    if starts and in_time:
        return Phase.ACTIVE, (booking.resource.id, booking.user.id)
    return Phase.PENDING, None


@given(histories())
def test_the_end_of_the_story_does_not_depend_on_how_it_is_told(events: list[ReservationEvent]) -> None:
    world = World()
    for event in events:
        world.handle(event, NINE)
    if events:
        assert world.state is not None
        assert (world.state.phase, world.exists) == expected(events)


@given(histories(), st.randoms(use_true_random=False))
def test_every_order_comes_to_the_same_booking_under_the_same_revision(
    events: list[ReservationEvent], random: Random
) -> None:
    def remembered() -> object:
        world = World()
        for event in events:
            world.handle(event, NINE)
        state = world.state
        if state is None or state.phase is Phase.RELEASED:
            return state and state.phase
        booked = (state.booking_version, state.start, state.end, state.user.id, state.resource.id)
        return state.phase, state.start_seen, state.revision, booked

    told = remembered()
    random.shuffle(events)
    assert remembered() == told


@given(histories(), st.data())
def test_nothing_unsafe_is_decided_while_the_clock_runs(events: list[ReservationEvent], data: st.DataObject) -> None:
    now = NINE - timedelta(hours=3)
    world = World()
    revisions: dict[object, str] = {}
    for event in events:
        now += data.draw(st.integers(0, 120)) * MINUTE
        before = world.state
        decision = world.handle(event, now)
        after = decision.state
        if before is not None and before.phase is Phase.RELEASED:
            assert decision.action not in (Action.PROVISION, Action.MOVE)
            assert after == before
        if decision.action in (Action.PROVISION, Action.MOVE):
            assert after.end > now
            assert after.phase is Phase.ACTIVE
        if before is not None and _stale(event, before):
            assert (decision.action, after) == (Action.NOTHING, before)
        if after.phase is Phase.ACTIVE:
            assert world.exists == (after.resource.id, after.user.id)
        else:
            assert world.exists is None
        booking = (after.booking_version, after.start, after.end, after.user.id, after.resource.id)
        assert revisions.setdefault((booking, *after.parameters.items()), after.revision) == after.revision


@given(histories(), st.data())
def test_an_event_means_the_same_after_a_restart(events: list[ReservationEvent], data: st.DataObject) -> None:
    now = NINE - timedelta(hours=1)
    world = World()
    for event in events:
        now += data.draw(st.integers(0, 60)) * MINUTE
        again = decide(restored(world.state), event, now, POLICY)
        assert world.handle(event, now) == again
        assert restored(again.state) == again.state


@given(histories())
def test_a_repetition_tells_the_same_outcome_of_the_same_revision(events: list[ReservationEvent]) -> None:
    world = World()
    for event in events:
        first = world.handle(event, NINE)
        exists = world.exists
        again = world.handle(replace(event, occurred_at=event.occurred_at + MINUTE), NINE)
        assert (again.state.revision, world.exists) == (first.state.revision, exists)
        if first.action is not Action.MOVE and first.state.phase is not Phase.PENDING and _told_alike(event):
            assert again.outcome == first.outcome


def _stale(event: ReservationEvent, state: ReservationState) -> bool:
    known = state.booking_version
    return event.updated_at is not None and known is not None and event.updated_at < known


def _told_alike(event: ReservationEvent) -> bool:
    return event.kind in (EventKind.START, *ENDINGS)
