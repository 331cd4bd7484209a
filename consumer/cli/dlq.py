"""`moorage dlq`: what lies on the dead-letter topic."""

import heapq
import sys
from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from consumer.cli.console import Exit, out, print_json, run_async
from consumer.cli.kafka import begin
from consumer.cli.letters import Place, Summary, concerns, place_of, summary_of
from consumer.cli.replay import replay
from consumer.cli.text import cell, clock, exact, line, note, readable, refuse, shown, size
from consumer.parts import connection_of, topics_of
from consumer.settings import Settings
from consumer.transport.deadletters import StoredLetter, stored_letter
from consumer.transport.reader import Reader, read_topic
from schemas.deadletter import Header

app = typer.Typer(help="Records that could not be handled: list them, look at one, replay them.", no_args_is_help=True)
app.command("replay")(replay)

_SHOWN_BYTES = 65_536


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Only so many, the newest.")] = 100,
    reservation: Annotated[str | None, typer.Option(help="Only those about this reservation.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each dead letter.")] = False,
) -> None:
    """List dead letters, the newest last: where they lie, when and why they failed, where they came from."""
    settings = begin()
    newest, count = run_async(_newest(settings, limit, reservation))
    if as_json:
        for summary in newest:
            print_json(summary.as_json())
    elif out.is_terminal and newest:
        out.print(_table(newest))
    else:
        for each in newest:
            line(
                each.place,
                clock(each.when),
                each.came_from,
                each.code,
                readable(each.key),
                size(each.size),
                each.message,
            )
    if count > len(newest):
        note(f"the newest {len(newest)} of {count}; --limit shows more")
    elif not count:
        note("no dead letters")


@app.command("show")
def show_letter(
    place: Annotated[Place, typer.Argument(metavar="PARTITION:OFFSET", parser=place_of, help="As `dlq list` has it.")],
    raw: Annotated[bool, typer.Option("--raw", help="Only the payload, byte for byte.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show one dead letter: why it failed, its headers and its payload."""
    stored = run_async(_at(begin(), place))
    if stored is None:
        refuse(f"There is no dead letter at {place}; `moorage dlq list` shows those there are.", Exit.NOT_FOUND)
    if raw:
        sys.stdout.buffer.write(stored.message.value or b"")
        sys.stdout.buffer.flush()
    elif as_json:
        headers = [{"name": name, "value": exact(value)} for name, value in _headers(stored)]
        print_json(summary_of(stored).as_json() | {"headers": headers, "payload": exact(stored.message.value)})
    else:
        _show(stored)


async def _newest(settings: Settings, limit: int, reservation: str | None) -> tuple[list[Summary], int]:
    """The newest `limit` dead letters in order of time, and how many there are. Never holds more than `limit`."""
    heap: list[tuple[tuple[datetime, Place], Summary]] = []
    count = 0
    async with aclosing(read_topic(connection_of(settings), topics_of(settings).dead_letter)) as messages:
        async for message in messages:
            stored = stored_letter(message)
            if not concerns(stored, reservation):
                continue
            count += 1
            summary = summary_of(stored)
            (heapq.heappush if len(heap) < limit else heapq.heappushpop)(heap, (summary.age_order, summary))
    return [summary for _, summary in sorted(heap)], count


async def _at(settings: Settings, place: Place) -> StoredLetter | None:
    async with Reader(connection_of(settings), topics_of(settings).dead_letter) as reader:
        message = await reader.at(place.partition, place.offset)
    return stored_letter(message) if message is not None else None


def _headers(stored: StoredLetter) -> tuple[Header, ...]:
    """The record's own headers; all there are when it is no dead letter."""
    return stored.letter.headers if stored.letter else stored.message.headers


def _table(summaries: list[Summary]) -> Table:
    table = Table()
    for name in ("place", "failed at", "came from", "code", "key", "size", "message"):
        table.add_column(name, overflow="fold", justify="right" if name == "size" else "left")
    for each in summaries:
        table.add_row(
            cell(each.place, "cyan"),
            cell(clock(each.when), "dim"),
            cell(each.came_from),
            cell(each.code, "red"),
            cell(readable(each.key)),
            cell(size(each.size)),
            cell(each.message),
        )
    return table


def _show(stored: StoredLetter) -> None:
    summary = summary_of(stored)
    facts = {
        "place": summary.place,
        "failed at": clock(summary.when),
        "came from": summary.came_from,
        "code": summary.code,
        "message": summary.message,
        "instance": summary.instance,
        "key": readable(summary.key),
        "size": size(summary.size),
        "replayed from": summary.replayed_from,
        "replayable": "yes" if summary.replayable else f"no: {stored.problem}",
    }
    headers = [(f"header {name}", readable(value)) for name, value in _headers(stored)]
    for name, fact in [*facts.items(), *headers]:
        out.print(cell(f"{name}:", "dim"), cell(fact), soft_wrap=True)
    payload = stored.message.value
    if payload is None:
        note("no payload: the record is a tombstone")
        return
    out.print()
    # Not rich's print: a payload is shown as it is, and that includes where its lines end.
    sys.stdout.write(shown(payload[:_SHOWN_BYTES]) + "\n")
    if len(payload) > _SHOWN_BYTES:
        note(f"and {size(len(payload) - _SHOWN_BYTES)} more; --raw writes all of it")
