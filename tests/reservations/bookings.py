"""Events of one reservation, from eight to ten o'clock, and what a test says of them."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from consumer.reservations import Action, Decision, Policy, decide
from schemas.events import EventKind, ReservationEvent, Resource, User
from schemas.state import Phase, ReservationState

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
END = datetime(2026, 3, 2, 10, tzinfo=UTC)
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
ANN = User("u-ann", "ann", "ann@example.org", "ssh-ed25519 AAAA ann")
BOB = User("u-bob", "bob")
SERVER = Resource("12", "GPU Server 1", "Linux container", site_id="s1")
OTHER_SERVER = Resource("13", "GPU Server 2", "Linux container")
POLICY = Policy()

_sent = count()


def version(number: int) -> datetime:
    """The `updatedAt` of version `number` of the booking."""
    return datetime(2026, 2, 20, 10, tzinfo=UTC) + timedelta(minutes=number)


def event(kind: EventKind, **changes: Any) -> ReservationEvent:
    """An event as the platform sends it: flat ones know who the user is, versions only their id."""
    flat = kind in (EventKind.START, EventKind.END)
    fields: dict[str, Any] = {
        "reservation_id": "1841",
        "occurred_at": START + timedelta(microseconds=next(_sent)),
        "start": START,
        "end": END,
        "user": ANN if flat else User(ANN.id),
        "resource": SERVER,
        "title": "Lab 3",
        "parameters": {} if kind is EventKind.DELETED else {"image": "nginx:1.27"},
        "webhook_id": "7",
    }
    return ReservationEvent(kind=kind, **(fields | changes))


def start(**changes: Any) -> ReservationEvent:
    return event(EventKind.START, **changes)


def end(**changes: Any) -> ReservationEvent:
    return event(EventKind.END, **changes)


def deleted(**changes: Any) -> ReservationEvent:
    return event(EventKind.DELETED, **({"title": None} | changes))


def created(**changes: Any) -> ReservationEvent:
    return event(EventKind.CREATED, **({"updated_at": version(0)} | changes))


def updated(number: int, **changes: Any) -> ReservationEvent:
    return event(EventKind.UPDATED, **({"updated_at": version(number)} | changes))


def after(*events: ReservationEvent, now: datetime = NINE) -> ReservationState | None:
    """What is remembered after these events, everything having worked."""
    state = None
    for each in events:
        state = decide(state, each, now, POLICY).state
    return state


def active(**changes: Any) -> ReservationState:
    """A running reservation, as a provisioner and the state topic leave it."""
    state = after(created(), start())
    assert state is not None
    assert state.phase is Phase.ACTIVE
    ran = {"runtime": "docker", "template": "linux", "environment": "r-ann", "image": "nginx:1.27"}
    return state.model_copy(update=ran | changes)


def facts(decision: Decision) -> tuple[Action, Phase, str, str | None, bool]:
    """What matters of a decision: action, phase afterwards, outcome, reason, whether a person is told."""
    reason = decision.reason.code if decision.reason else None
    return decision.action, decision.state.phase, decision.outcome, reason, decision.notify


def restored(state: ReservationState | None) -> ReservationState | None:
    """`state` after a restart: written to the state topic and read back."""
    return None if state is None else ReservationState.model_validate_json(state.to_bytes())
