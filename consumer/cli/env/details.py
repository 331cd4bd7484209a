"""`moorage env show`: everything known of one reservation."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappush, heappushpop
from typing import Annotated, Any

import typer

from consumer.cli.console import Exit, out, print_json, run_async
from consumer.cli.env.look import Memory, Remembered, Sight, environments_of, memory, reservation_id
from consumer.cli.env.rows import Mark, rows_of
from consumer.cli.env.times import deadline
from consumer.cli.kafka import begin
from consumer.cli.outbound import STYLES, body_of, ways_in
from consumer.cli.text import cell, clock, problem, refuse
from consumer.cli.watch import reservation_of
from consumer.handling.ports import Environment
from consumer.parts import catalog_of, connection_of, topics_of
from consumer.settings import Settings
from consumer.transport.connection import TransportError
from consumer.transport.reader import read_topic
from schemas.outbound import Reason, Result
from schemas.state import Phase


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one reservation; None for what nobody could be asked for."""

    reservation: str
    memory: Memory | None
    sight: Sight | None
    results: tuple[Result, ...] | None

    @property
    def remembered(self) -> Remembered | None:
        return self.memory.states.get(self.reservation) if self.memory else None

    @property
    def unreadable(self) -> bool:
        return self.memory is not None and self.reservation in self.memory.unreadable

    @property
    def environments(self) -> tuple[Environment, ...]:
        return self.sight.environments if self.sight else ()

    @property
    def complete(self) -> bool:
        silent = self.sight is not None and self.sight.silent
        return self.memory is not None and self.results is not None and not self.unreadable and not silent

    @property
    def is_nothing(self) -> bool:
        return not (self.remembered or self.unreadable or self.environments or self.results)

    def marks(self, now: datetime) -> list[Mark]:
        """What does not fit together."""
        return sorted({row.mark for row in rows_of(self.memory, self.sight, now) if row.mark})


def show(
    reservation: Annotated[str, typer.Argument(metavar="RESERVATION", parser=reservation_id)],
    last: Annotated[int, typer.Option(min=0, max=1000, help="So many of its last results; 0 reads none.")] = 5,
    runtimes: Annotated[bool, typer.Option("--runtimes/--no-runtimes", help="Ask the runtimes what runs.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show one reservation: its booking, its environment, why it failed, and its last results.

    Exit codes: 5 nobody knows it, 1 somebody who may know more did not answer.
    """
    known = run_async(_known(begin(), reservation, last, ask=runtimes))
    now = datetime.now(UTC)
    if known.is_nothing:
        if known.complete:
            refuse(f"Nothing is known of {reservation}; `moorage env list --all` shows what there is.", Exit.NOT_FOUND)
        raise typer.Exit(Exit.FAILED)
    if known.unreadable:
        problem("Its state cannot be read: another release of Moorage wrote it, or somebody else did.")
    if as_json:
        print_json(_as_json(known, now))
    else:
        for name, fact in _facts(known, now):
            out.print(cell(f"{name}:", "dim"), cell(fact), soft_wrap=True)
        for result in known.results or ():
            why = _why(result.reason)
            told = [cell(clock(result.occurred_at), "dim"), cell(result.event_type)]
            told += [cell(result.outcome, STYLES.get(result.outcome, "")), *([cell(why)] if why else [])]
            out.print(cell("result:", "dim"), *told, soft_wrap=True)
    if not known.complete:
        raise typer.Exit(Exit.FAILED)


async def _known(settings: Settings, reservation: str, last: int, *, ask: bool) -> Known:
    try:
        known = await memory(settings, reservation)
    except TransportError as error:
        problem(f"{error} What is remembered, and what was told, is missing here.")
        known = None
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_sight(settings, known, reservation)) if ask else None
        reading = tasks.create_task(_results(settings, reservation, last)) if known is not None else None
    return Known(
        reservation, known, looking.result() if looking else None, reading.result() if reading is not None else None
    )


async def _sight(settings: Settings, known: Memory | None, reservation: str) -> Sight:
    runtimes = set(catalog_of(settings).runtimes)
    remembered = known.states.get(reservation) if known else None
    if remembered is not None and remembered.state.runtime and remembered.state.phase is Phase.ACTIVE:
        runtimes.add(remembered.state.runtime)
    return await environments_of(settings, runtimes, reservation)


async def _results(settings: Settings, reservation: str, last: int) -> tuple[Result, ...] | None:
    """The last results, the newest last; None and an error on the terminal when they cannot be read."""
    newest: list[tuple[int, int, int, Result]] = []
    if last == 0:
        return ()
    try:
        async with aclosing(read_topic(connection_of(settings), topics_of(settings).outbound)) as messages:
            async for message in messages:
                if reservation_of(message) != reservation:
                    continue
                body = body_of(message)
                if isinstance(body, Result):
                    entry = (message.timestamp_ms, message.partition, message.offset, body)
                    (heappush if len(newest) < last else heappushpop)(newest, entry)
    except TransportError as error:
        problem(f"{error} What was told is missing here.")
        return None
    return tuple(entry[-1] for entry in sorted(newest))


def _facts(known: Known, now: datetime) -> Iterator[tuple[str, object]]:
    """What is to be read, name by name."""
    yield "reservation", known.reservation
    if known.remembered is not None:
        state = known.remembered.state
        yield "phase", state.phase
        yield "title", state.title
        yield "user", _with_id(state.user.name, state.user.id)
        yield "email", state.user.email
        yield "resource", _with_id(state.resource.name, state.resource.id)
        yield "resource type", state.resource.type
        yield "site", state.resource.site_name or state.resource.site_id
        yield "from", clock(state.start)
        ended = state.phase is Phase.RELEASED
        yield "until", clock(state.end) if ended else deadline(state.end, now, runs=state.phase is Phase.ACTIVE)
        for label, value in sorted(state.parameters.items()):
            yield f"parameter {label}", value
        yield "booking version", state.booking_version.isoformat() if state.booking_version else None
        yield "revision", state.revision
        yield "start came", "yes" if state.start_seen else "no"
        yield "runtime", state.runtime
        yield "placed on", state.placed
        yield "template", state.template
        yield "environment", state.environment
        yield "image", state.image
        yield "image digest", state.image_digest
        yield "access", ways_in(state.access)
        yield "reason", _why(state.reason)
        yield "changed at", clock(state.changed_at)
    for environment in known.environments:
        where = environment.runtime
        yield f"{where} status", environment.status
        yield f"{where} name", environment.name
        yield f"{where} id", environment.native_id
        yield f"{where} image", environment.image
        yield f"{where} image digest", environment.image_digest
        yield f"{where} access", ways_in(environment.access)
        yield f"{where} until", clock(environment.expires_at)
    for line in _kubectl(known):
        yield "kubectl", line
    for mark in known.marks(now):
        yield "look here", mark


def _kubectl(known: Known) -> Iterator[str]:
    """Lines to paste, as the cluster shows them now, or as they were told."""
    told = [known.remembered.state.access] if known.remembered else []
    for access in [each.access for each in known.environments] or told:
        if access is not None and (kubectl := access.kubectl) is not None:
            yield from (kubectl.logs, kubectl.exec, *kubectl.port_forward)


def _as_json(known: Known, now: datetime) -> dict[str, Any]:
    remembered = known.remembered
    until = remembered.state.end if remembered else None
    return {
        "reservation": known.reservation,
        "state": _dumped(remembered.state) if remembered else None,
        "partition": remembered.partition if remembered else None,
        "remainingSeconds": int((until - now).total_seconds()) if until else None,
        "environments": [_environment_json(each) for each in known.environments],
        "marks": known.marks(now),
        "results": [_dumped(result) for result in known.results] if known.results is not None else None,
        "complete": known.complete,
    }


def _environment_json(environment: Environment) -> dict[str, Any]:
    return {
        "runtime": environment.runtime,
        "name": environment.name,
        "nativeId": environment.native_id,
        "status": environment.status,
        "image": environment.image,
        "imageDigest": environment.image_digest,
        "user": environment.user,
        "resourceId": environment.resource_id,
        "expiresAt": environment.expires_at.isoformat() if environment.expires_at else None,
        "access": _dumped(environment.access),
    }


def _dumped(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _with_id(name: str | None, own_id: str) -> str:
    return f"{name} ({own_id})" if name else own_id


def _why(reason: Reason | None) -> str | None:
    return f"{reason.code}: {reason.message}" if reason else None
