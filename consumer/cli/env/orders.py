"""`moorage env release` and `env extend`: an event for the reservation, agreed to, published, and followed up."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from consumer.cli.console import Exit, run_async
from consumer.cli.env.events import end_event, extended_event
from consumer.cli.env.look import Memory, Remembered, environments_of, memory, reservation_id
from consumer.cli.env.sending import Order, carry_out
from consumer.cli.env.times import moment_of, span_of, span_text
from consumer.cli.kafka import begin
from consumer.cli.text import clock, note, refuse
from consumer.handling.ports import Environment
from consumer.handling.publications import end_of
from consumer.parts import catalog_of
from consumer.provisioners.text import plain
from consumer.reservations import Action, Decision, Policy, decide
from consumer.settings import Settings
from schemas.events import EventKind, ReservationEvent
from schemas.inbound import DecodeError, decode
from schemas.outbound import Outcome
from schemas.state import Phase, ReservationState

Reservation = Annotated[str, typer.Argument(metavar="RESERVATION", parser=reservation_id)]
Topic = Annotated[str | None, typer.Option(help="One of MOORAGE_TOPICS; the first otherwise.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[float | None, typer.Option(min=0.1, metavar="SECONDS", help="Wait so long for what comes of it.")]


def release(reservation: Reservation, topic: Topic = None, yes: Yes = False, wait: Wait = None) -> None:
    """End a reservation now: publishes its EVENT_END, as the platform does.

    What ended does not start again. Exit codes with --wait: 1 it failed, 3 nothing came of it in time.
    """
    settings = begin()
    target = _topic(settings, topic)
    _must_be_able_to_ask(yes)
    order = run_async(_release(settings, reservation))
    _confirm(order, yes)
    raise typer.Exit(run_async(carry_out(settings, target, order, wait)))


def extend(
    reservation: Reservation,
    until: Annotated[
        datetime | None, typer.Option(parser=moment_of, metavar="TIME", help="The new end, ISO 8601 with a zone.")
    ] = None,
    by: Annotated[
        timedelta | None,
        typer.Option(parser=span_of, metavar="SPAN", help="How much later than its present end: 1h30m, 2d."),
    ] = None,
    topic: Topic = None,
    yes: Yes = False,
    wait: Wait = None,
) -> None:
    """Let a reservation last longer: publishes an EVENT_UPDATED with a later end and all else as it is.

    The platform does not know of it: its own end event, and its next update of the booking, count all the same.
    Exit codes with --wait: 1 it was refused or failed, 3 nothing came of it in time.
    """
    if (until is None) == (by is None):
        raise typer.BadParameter("Say either --until when it shall end, or --by how much later.")
    settings = begin()
    target = _topic(settings, topic)
    _must_be_able_to_ask(yes)
    known = run_async(memory(settings, reservation))
    remembered = _remembered(known, reservation)
    order = _extension(settings, remembered, until if until is not None else _later(remembered.state, by))
    _confirm(order, yes)
    code = run_async(carry_out(settings, target, order, wait))
    note(
        "The platform does not know of this: its own end event, or its next update of the booking, counts all the same."
    )
    raise typer.Exit(code)


# What to publish


async def _release(settings: Settings, reservation: str) -> Order:
    known = await memory(settings, reservation)
    partition = None
    if reservation in known.unreadable or reservation in known.states:
        remembered = _remembered(known, reservation)
        state, partition = remembered.state, remembered.partition
        over = " It has ended already; this removes what a late hand may have made." if _is_over(state) else ""
        value, question = end_event(state, datetime.now(UTC)), f"Release {_named(state)}?{over}"
    else:
        environment = await _orphan(settings, reservation)
        value = end_of(environment, datetime.now(UTC)).value or b""
        question = f"Release {reservation}, of which only {environment.name} on {environment.runtime} is known?"
    _readable(settings, reservation, value)
    good = frozenset({Outcome.RELEASED, Outcome.EXPIRED, Outcome.SKIPPED})
    return Order(EventKind.END, reservation, value, partition, question, good)


async def _orphan(settings: Settings, reservation: str) -> Environment:
    """The environment of a reservation of which nothing is remembered."""
    sight = await environments_of(settings, catalog_of(settings).runtimes, reservation)
    if not sight.environments:
        refuse(
            f"Nothing is remembered of {reservation}, and no runtime that answers has an environment of it. "
            "`moorage env list --all` shows what there is; `moorage publish` publishes any event.",
            Exit.FAILED if sight.silent else Exit.NOT_FOUND,
        )
    return sight.environments[0]


def _extension(settings: Settings, remembered: Remembered, end: datetime) -> Order:
    """The update, if it is one and means nothing else."""
    state, now = remembered.state, datetime.now(UTC)
    name = state.reservation_id
    if _is_over(state):
        refuse(f"{name} has ended, and what ended does not start again. Book it anew.")
    if end <= now:
        refuse(
            f"{clock(end)} is not in the future. {name} ends at {clock(state.end)}; --until takes any later time.",
            Exit.USAGE,
        )
    if end == state.end:
        note(f"{name} ends at {clock(end)} already; nothing was published")
        raise typer.Exit(Exit.OK)
    if end < state.end:
        refuse(
            f"{clock(end)} would be earlier: {name} ends at {clock(state.end)}. "
            "Nothing was published; `moorage env release` ends it at once.",
            Exit.USAGE,
        )
    value = extended_event(state, end, now)
    decision = _meaning(settings, state, value, now)
    if decision.action not in (Action.NOTHING, Action.PROVISION) or decision.outcome is Outcome.SKIPPED:
        why = f" ({decision.reason.message})" if decision.reason else ""
        refuse(f"{name} cannot be extended: to Moorage, the update would mean {decision.outcome}{why}.")
    starts = " Its environment will be started." if decision.action is Action.PROVISION else ""
    question = f"Extend {_named(state)} by {span_text(end - state.end)}, to {clock(end)}?{starts}"
    good = frozenset({Outcome.UPDATED, Outcome.PROVISIONED})
    return Order(EventKind.UPDATED, name, value, remembered.partition, question, good)


def _meaning(settings: Settings, state: ReservationState, value: bytes, now: datetime) -> Decision:
    """What whoever handles the event will decide, as long as nothing else happens before."""
    event = _readable(settings, state.reservation_id, value)
    return decide(state, event, now, Policy(lead=timedelta(seconds=settings.start_lead)))


def _readable(settings: Settings, reservation: str, value: bytes) -> ReservationEvent:
    """The event that was built, as whoever handles it will read it. Refuses what would become a dead letter."""
    try:
        events = decode(value, max_bytes=settings.max_record_bytes)
    except DecodeError as error:
        refuse(f"What is known of {reservation} does not make an event that can be read: {error.message}")
    return next(event for event in events if isinstance(event, ReservationEvent))


def _remembered(known: Memory, reservation: str) -> Remembered:
    if reservation in known.unreadable:
        refuse(
            f"The state of {reservation} cannot be read: another release of Moorage wrote it, or somebody else did. "
            "Use that release's command; this one's service would leave the reservation as it is."
        )
    remembered = known.states.get(reservation)
    if remembered is None:
        refuse(f"Nothing is remembered of {reservation}; `moorage env list --all` shows what there is.", Exit.NOT_FOUND)
    return remembered


def _later(state: ReservationState, by: timedelta | None) -> datetime:
    try:
        return state.end + (by or timedelta())
    except OverflowError:
        raise typer.BadParameter("That is later than calendars go.") from None


def _is_over(state: ReservationState) -> bool:
    return state.phase is Phase.RELEASED


def _named(state: ReservationState) -> str:
    who, what = state.user.name or state.user.id, state.resource.name or state.resource.id
    return f"{state.reservation_id} ({who} on {what}, {state.phase}, until {clock(state.end)})"


# Asking


def _topic(settings: Settings, topic: str | None) -> str:
    known = settings.inbound_topics
    if topic is not None and topic not in known:
        raise typer.BadParameter(f"{topic!r} is none of MOORAGE_TOPICS ({', '.join(known)}), so nobody would read it.")
    if topic is None and len(known) > 1:
        note(f"publishing to {known[0]}, the first of MOORAGE_TOPICS; --topic names another")
    return topic or known[0]


def _must_be_able_to_ask(yes: bool) -> None:
    if not yes and not _somebody_there():
        refuse("There is nobody to ask: --yes publishes without asking.", Exit.USAGE)


def _confirm(order: Order, yes: bool) -> None:
    if not yes and not typer.confirm(plain(order.question), err=True):
        note("nothing was published")
        raise typer.Exit(Exit.OK)


def _somebody_there() -> bool:
    return sys.stdin.isatty()
