"""`moorage env list`: what runs, for whom, until when."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from consumer.cli.console import Exit, out, print_json, run_async
from consumer.cli.env.look import Memory, Sight, all_environments, chosen, memory
from consumer.cli.env.rows import COLUMNS, Mark, Row, Selection, rows_of
from consumer.cli.kafka import begin
from consumer.cli.text import cell, line, note, problem
from consumer.handling.ports import Status
from consumer.parts import catalog_of
from consumer.settings import Settings
from consumer.transport.connection import TransportError
from schemas.state import Phase

_STATUS = COLUMNS.index("status")
_STYLES: dict[Mark | Status | None, str] = {
    Status.RUNNING: "green",
    Status.STARTING: "cyan",
    Status.STOPPED: "red",
    Status.DYING: "yellow",
    Mark.NOT_RUNNING: "red",
    Mark.ORPHAN: "red",
    Mark.LEFT_OVER: "red",
    Mark.UNREADABLE: "red",
    Mark.UNKNOWN: "yellow",
}
_NAMED = 5


def list_reservations(
    every: Annotated[bool, typer.Option("--all", help="Also what has ended, and what never ran and is over.")] = False,
    user: Annotated[str | None, typer.Option(help="Only this user's, by name or id.")] = None,
    resource: Annotated[str | None, typer.Option(help="Only on this resource, by name or id.")] = None,
    phase: Annotated[
        Phase | None, typer.Option(case_sensitive=False, help="Only in this phase, whether over or not.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Only on this runtime: `docker` with all its engines, or one, as `docker@gpu-1`.")
    ] = None,
    runtimes: Annotated[bool, typer.Option("--runtimes/--no-runtimes", help="Ask the runtimes what runs.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each.")] = False,
) -> None:
    """List reservations and their environments, what ends next on top.

    Joins what is remembered on the state topic with what the runtimes show. Exit code 1 when Kafka or a runtime did
    not answer, or a state could not be read: what is known without it is shown all the same.
    """
    wanted = Selection(user, resource, runtime, phase, every)
    rows, now, complete = run_async(_rows(begin(), wanted, ask=runtimes))
    if as_json:
        for row in rows:
            print_json(row.as_json(now))
    elif out.is_terminal and rows:
        out.print(_table(rows, now))
    else:
        for each in rows:
            line(*each.fields(now))
    if complete and not rows:
        note("nothing of the kind; --all also lists what is over" if not every else "nothing of the kind")
    if not complete:
        raise typer.Exit(Exit.FAILED)


async def _rows(settings: Settings, wanted: Selection, *, ask: bool) -> tuple[list[Row], datetime, bool]:
    """The rows that are wanted, as of when, and whether all was seen that could be."""
    async with asyncio.TaskGroup() as tasks:
        remembering = tasks.create_task(_memory(settings))
        looking = tasks.create_task(_sight(settings, wanted)) if ask else None
    known, sight = remembering.result(), looking.result() if looking is not None else None
    if sight is not None and known is not None and wanted.runtime is None:
        sight = sight.and_also(await _elsewhere(settings, known, sight))
    now = datetime.now(UTC)
    rows = [row for row in rows_of(known, sight, now) if row.is_wanted(wanted, now)]
    complete = known is not None and not known.unreadable and not (sight is not None and sight.silent)
    return rows, now, complete


async def _memory(settings: Settings) -> Memory | None:
    try:
        known = await memory(settings)
    except TransportError as error:
        problem(f"{error} What is remembered of reservations is missing here.")
        return None
    if known.unreadable:
        few = ", ".join(sorted(known.unreadable)[:_NAMED])
        more = f" and {len(known.unreadable) - _NAMED} more" if len(known.unreadable) > _NAMED else ""
        problem(f"The state of {few}{more} cannot be read: another release of Moorage wrote it, or somebody else did.")
    return known


async def _sight(settings: Settings, wanted: Selection) -> Sight:
    return await all_environments(settings, chosen(catalog_of(settings).runtimes, wanted.runtime))


async def _elsewhere(settings: Settings, known: Memory, sight: Sight) -> Sight:
    """What runs where templates no longer lead to."""
    states = (each.state for each in known.states.values())
    used = {state.runtime for state in states if state.phase is Phase.ACTIVE and state.runtime}
    return await all_environments(settings, used - sight.asked)


def _table(rows: list[Row], now: datetime) -> Table:
    table = Table()
    for name in COLUMNS:
        table.add_column(name, overflow="fold")
    for row in rows:
        style = _STYLES.get(row.status, "")
        table.add_row(
            *(cell(field, style if number == _STATUS else "") for number, field in enumerate(row.fields(now)))
        )
    return table
