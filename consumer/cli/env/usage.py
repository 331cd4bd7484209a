"""`moorage env top`: what environments use, as a live table or as JSON."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from consumer.cli.console import Exit, out, print_json, run_async
from consumer.cli.env.look import answer_of, chosen, provisioner_of
from consumer.cli.kafka import begin
from consumer.cli.text import cell, line, note, size
from consumer.handling.ports import Environment, Provisioner, Status
from consumer.handling.usage import Usage
from consumer.parts import catalog_of
from consumer.settings import Settings

COLUMNS = ("environment", "user", "runtime", "cpu", "memory", "of", "net in", "out", "disk read", "written", "procs")

_AT_ONCE = 32
"""Environments that are asked for at a time: an engine takes a second or two for each."""


class Sort(StrEnum):
    CPU = "cpu"
    MEMORY = "memory"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Selection:
    user: str | None
    runtime: str | None
    sort: Sort


@dataclass(frozen=True, slots=True)
class Reading:
    """What an environment uses now; `cores` is how many processors it keeps busy, None while nobody can say."""

    environment: Environment
    usage: Usage
    cores: float | None

    def fields(self) -> list[str | None]:
        used = self.usage
        return [
            self.environment.name,
            self.environment.user,
            self.environment.runtime,
            f"{self.cores:.1%}" if self.cores is not None else None,
            size(used.memory_bytes),
            *(_size(each) for each in (used.memory_limit_bytes, used.received_bytes, used.sent_bytes)),
            *(_size(each) for each in (used.read_bytes, used.written_bytes)),
            str(used.processes) if used.processes is not None else None,
        ]

    def as_json(self) -> dict[str, Any]:
        shown = self.environment
        return {
            "reservation": shown.reservation_id,
            "environment": shown.name,
            "user": shown.user,
            "resourceId": shown.resource_id,
            "runtime": shown.runtime,
            "cores": round(self.cores, 4) if self.cores is not None else None,
            **{_camel(name): value for name, value in asdict(self.usage).items() if name not in ("at", "cores")},
            "at": self.usage.at.isoformat(),
        }


def top(
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two looks.")] = 2.0,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many readings.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's, by name or id.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Only on this runtime: `docker` with all its engines, or one, as `docker@gpu-1`.")
    ] = None,
    sort: Annotated[Sort, typer.Option(help="What is most comes first.")] = Sort.CPU,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each environment and reading.")] = False,
) -> None:
    """Show what environments use: processors, memory, network and disk.

    On a terminal, a live table; elsewhere one reading, a line for each environment. Only runtimes are asked, so it
    works without Kafka. Ctrl-C ends it. Exit code 1 when a runtime did not answer at the last look.
    """
    live = out.is_terminal and not as_json
    if count is None and not live:
        count = 1
    tell = _json_lines if as_json else None if live else _lines
    if not run_async(_top(begin(), Selection(user, runtime, sort), interval, count, tell)):
        raise typer.Exit(Exit.FAILED)


async def _top(
    settings: Settings,
    wanted: Selection,
    interval: float,
    count: int | None,
    tell: Callable[[list[Reading]], None] | None,
) -> bool:
    """Look again and again, until `count` readings were told; True when all runtimes answered at the last look.

    Without `tell` a table is kept on the terminal, from the first look on.
    """
    names = sorted(chosen(catalog_of(settings).runtimes, wanted.runtime))
    async with AsyncExitStack() as stack:
        provisioners = [found for name in names if (found := provisioner_of(settings, name)) is not None]
        for provisioner in provisioners:
            stack.push_async_callback(provisioner.close)
        table = stack.enter_context(Live(console=out, auto_refresh=False)) if tell is None else None
        readings, complete = await _look(provisioners, wanted, {})
        told = 0
        while True:
            if table is not None:
                table.update(_table(readings), refresh=True)
            elif tell is not None and told:
                tell(readings)
            if told == count:
                return complete and len(provisioners) == len(names)
            await asyncio.sleep(interval)
            earlier = {each.environment.native_id: each.usage for each in readings}
            readings, complete = await _look(provisioners, wanted, earlier)
            told += 1


async def _look(
    provisioners: Iterable[Provisioner], wanted: Selection, earlier: dict[str, Usage]
) -> tuple[list[Reading], bool]:
    """What there is to read now, and whether all runtimes answered."""
    slots = asyncio.Semaphore(_AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_readings_of(each, wanted, earlier, slots)) for each in provisioners]
    answers = [task.result() for task in asked]
    found = [reading for answer in answers for reading in answer or ()]
    return sorted(found, key=_order(wanted.sort)), None not in answers


async def _readings_of(
    provisioner: Provisioner, wanted: Selection, earlier: dict[str, Usage], slots: asyncio.Semaphore
) -> list[Reading] | None:
    """None, and an error on the terminal, when the runtime does not answer."""

    async def read(environment: Environment) -> Reading | None:
        async with slots:
            used = await provisioner.usage(environment.key)
        if used is None:  # it ended since
            return None
        return Reading(environment, used, used.cores_since(earlier.get(environment.native_id)))

    async def read_all() -> list[Reading]:
        running = (each for each in await provisioner.list() if each.status is Status.RUNNING)
        chosen = [each for each in running if wanted.user in (None, each.user)]
        return [each for each in await asyncio.gather(*map(read, chosen)) if each is not None]

    return await answer_of(provisioner.runtime, read_all())


def _order(sort: Sort) -> Callable[[Reading], tuple[float, str]]:
    def key(reading: Reading) -> tuple[float, str]:
        weight = {Sort.CPU: reading.cores or 0.0, Sort.MEMORY: float(reading.usage.memory_bytes), Sort.NAME: 0.0}
        return -weight[sort], reading.environment.name

    return key


def _table(readings: list[Reading]) -> Table:
    table = Table()
    for number, name in enumerate(COLUMNS):
        table.add_column(name, overflow="fold", justify="left" if number < 3 else "right")
    for reading in readings:
        table.add_row(*map(cell, reading.fields()))
    return table


def _lines(readings: list[Reading]) -> None:
    for reading in readings:
        line(*reading.fields())
    if not readings:
        note("nothing runs")


def _json_lines(readings: list[Reading]) -> None:
    for reading in readings:
        print_json(reading.as_json())


def _size(count: int | None) -> str | None:
    return size(count) if count is not None else None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
