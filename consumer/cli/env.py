"""`moorage env`: what runs."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from consumer.app import ConfigurationError, catalog_of, connection_of, provisioners_of, topics_of
from consumer.cli.console import Exit, out, print_json, run_async
from consumer.cli.kafka import begin
from consumer.cli.outbound import ways_in
from consumer.cli.text import cell, clock, line, note, problem
from consumer.handling.errors import ProvisionerError
from consumer.handling.ports import Environment, Status
from consumer.settings import Settings
from consumer.transport.connection import TransportError
from consumer.transport.reader import read_reservations
from schemas.state import ReservationState

app = typer.Typer(help="Environments that run.", no_args_is_help=True)

_PATIENCE = 15.0
_STYLES = {Status.RUNNING: "green", Status.STARTING: "cyan", Status.STOPPED: "red", Status.DYING: "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """An environment, and what is remembered of its reservation."""

    environment: Environment
    state: ReservationState | None

    @property
    def user(self) -> str | None:
        return (self.state.user.name or self.state.user.id) if self.state else self.environment.user

    @property
    def resource(self) -> str:
        return (self.state and self.state.resource.name) or self.environment.resource_id

    @property
    def until(self) -> datetime | None:
        # An extended reservation has its new end in the state alone: labels cannot be changed.
        return self.state.end if self.state else self.environment.expires_at

    def is_of(self, user: str | None, resource: str | None) -> bool:
        users = {self.environment.user, *((self.state.user.id, self.state.user.name) if self.state else ())}
        resources = {self.environment.resource_id, self.resource}
        return (user is None or user in users) and (resource is None or resource in resources)

    def as_json(self) -> dict[str, Any]:
        environment = self.environment
        return {
            "name": environment.name,
            "runtime": environment.runtime,
            "status": environment.status,
            "reservation": environment.reservation_id,
            "phase": self.state.phase if self.state else None,
            "user": self.user,
            "userId": self.state.user.id if self.state else None,
            "resource": self.resource,
            "resourceId": environment.resource_id,
            "until": self.until.isoformat() if self.until else None,
            "image": environment.image,
            "access": environment.access.model_dump(mode="json", by_alias=True, exclude_none=True),
        }


@app.callback()
def env() -> None:
    """Environments that run."""


@app.command("list")
def list_environments(
    user: Annotated[str | None, typer.Option(help="Only this user's, by name or id.")] = None,
    resource: Annotated[str | None, typer.Option(help="Only on this resource, by name or id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each environment.")] = False,
) -> None:
    """List the environments of this installation on all runtimes that its templates use.

    Asks the runtimes themselves; who has an environment and until when is looked up on the state topic. Exit code 1
    when a runtime did not answer: what the others have is shown all the same.
    """
    rows, complete = run_async(_rows(begin()))
    wanted = [row for row in rows if row.is_of(user, resource)]
    if as_json:
        for row in wanted:
            print_json(row.as_json())
    elif out.is_terminal and wanted:
        out.print(_table(wanted))
    else:
        for each in wanted:
            line(*_fields(each))
    if complete and not wanted:
        note("no environments")
    if not complete:
        raise typer.Exit(Exit.FAILED)


async def _rows(settings: Settings) -> tuple[list[Row], bool]:
    """What runs, by runtime and name, and whether all runtimes answered."""
    runtimes = sorted(catalog_of(settings).runtimes)
    async with asyncio.TaskGroup() as tasks:
        remembering = tasks.create_task(_states(settings))
        looking = [tasks.create_task(_environments(settings, runtime)) for runtime in runtimes]
    states, found = remembering.result(), [each.result() for each in looking]
    rows = [
        Row(environment, states.get(environment.reservation_id))
        for environments in found
        for environment in sorted(environments or (), key=lambda environment: environment.name)
    ]
    return rows, None not in found


async def _environments(settings: Settings, runtime: str) -> list[Environment] | None:
    """The environments on one runtime, or None and an error on the terminal."""
    try:
        provisioner = provisioners_of(settings, frozenset({runtime}))[runtime]
    except ConfigurationError as error:
        problem(f"{runtime}: {error}")
        return None
    try:
        async with asyncio.timeout(_PATIENCE):
            return await provisioner.list()
    except ProvisionerError as error:
        problem(f"{runtime} does not answer: {error.message}")
    except TimeoutError:
        problem(f"{runtime} does not answer: silent for {_PATIENCE:g} s")
    finally:
        await provisioner.close()
    return None


async def _states(settings: Settings) -> dict[str, ReservationState]:
    try:
        return await read_reservations(connection_of(settings), topics_of(settings).state)
    except TransportError as error:
        note(f"shown without what is remembered of reservations: {error}")
        return {}


def _fields(row: Row) -> list[str | None]:
    environment = row.environment
    return [
        environment.name,
        environment.runtime,
        environment.status,
        environment.reservation_id,
        row.user,
        row.resource,
        clock(row.until),
        ways_in(environment.access),
    ]


def _table(rows: list[Row]) -> Table:
    table = Table()
    for name in ("name", "runtime", "status", "reservation", "user", "resource", "until", "access"):
        table.add_column(name, overflow="fold")
    for row in rows:
        style = _STYLES.get(row.environment.status, "")
        table.add_row(*(cell(field, style if number == 2 else "") for number, field in enumerate(_fields(row))))
    return table
