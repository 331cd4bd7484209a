"""`moorage publish`: events from files onto the reservation topic, byte for byte."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import from_json
from rich.text import Text

from consumer.cli.console import Exit, out, print_json, run_async
from consumer.cli.kafka import begin
from consumer.cli.text import cell, line, note, problem, readable
from consumer.parts import connection_of
from consumer.settings import Settings
from consumer.transport.connection import TransportError
from consumer.transport.publisher import Publisher
from schemas.events import Ping, ReservationEvent
from schemas.inbound import DecodeError, decode

_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Payload:
    """One record to publish. `source` is `file:line`, `said` what it is about."""

    source: str
    value: bytes
    key: bytes | None
    said: str
    hint: str | None = None


def publish(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="One JSON payload, or JSON lines; `-` reads standard input.",
        ),
    ],
    topic: Annotated[str | None, typer.Option(help="The first of MOORAGE_TOPICS otherwise.")] = None,
    key: Annotated[str | None, typer.Option(help="Record key; the reservation id otherwise.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Publish what cannot be read as well: it becomes a dead letter.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be published, without Kafka.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each record.")] = False,
) -> None:
    """Publish reservation events, exactly as they are in the files.

    Nothing is published when any payload cannot be read, unless --force says so. The record key is the reservation
    id; a batch of several reservations has no key, so its reservations keep no order with other records.
    """
    settings = begin()
    target = topic or settings.inbound_topics[0]
    payloads = _read(files, key, force=force, max_bytes=settings.max_record_bytes)
    for payload in payloads:
        if payload.hint:
            note(f"{payload.source}: {payload.hint}")
    if dry_run:
        for payload in payloads:
            _tell(payload, target, None, as_json=as_json)
        note(f"{_records(len(payloads))} would be published to {target}")
        return
    raise typer.Exit(run_async(_publish(settings, target, payloads, as_json=as_json)))


async def _publish(settings: Settings, topic: str, payloads: list[Payload], *, as_json: bool) -> Exit:
    async with Publisher(connection_of(settings)) as publisher:
        for number, payload in enumerate(payloads):
            try:
                placed = await publisher.send(topic, payload.value, key=payload.key)
            except TransportError as error:
                problem(f"{payload.source}: {error}")
                note(f"{number} of {len(payloads)} published")
                return Exit.FAILED
            _tell(payload, topic, placed, as_json=as_json)
    note(f"{_records(len(payloads))} published to {topic}")
    return Exit.OK


def split(data: bytes) -> list[tuple[int, bytes]]:
    """The payloads of a file with the lines they begin at: one document, or one each line, without the line ends.

    JSON lines are what is no document as a whole while its first or its last line is an object by itself.
    """
    lines = [(number, text) for number, text in enumerate(data.split(b"\n"), 1) if text.strip()]
    whole = [(lines[0][0] if lines else 1, _without_line_end(data))]
    if len(lines) < 2 or _is_json(data):
        return whole
    if not any(_is_object(text) for text in (lines[0][1], lines[-1][1])):
        return whole
    return [(number, text.removesuffix(b"\r")) for number, text in lines]


def payload_of(source: str, value: bytes, key: str | None, *, max_bytes: int) -> Payload:
    """What to publish. Raises `DecodeError` when the payload cannot be read."""
    events = decode(value, max_bytes=max_bytes)
    reservations = list(dict.fromkeys(event.reservation_id for event in events if isinstance(event, ReservationEvent)))
    hint = None
    if key is None and len(reservations) == 1:
        key = reservations[0]
    elif key is None and reservations:
        hint = f"a batch of {len(reservations)} reservations, so the record has no key; --key sets one"
    kind = "ALL" if isinstance(events[0], Ping) else events[0].kind
    return Payload(source, value, _bytes(key), kind, hint)


def _read(files: list[Path], key: str | None, *, force: bool, max_bytes: int) -> list[Payload]:
    """All payloads of all files; those that cannot be read end the command, or are taken raw with `force`."""
    payloads, problems = [], []
    for file in files:
        for number, value in split(_content(file)):
            source = f"{file}:{number}"
            try:
                payloads.append(payload_of(source, value, key, max_bytes=max_bytes))
            except DecodeError as error:
                problems.append(f"{source}: {error}")
                payloads.append(Payload(source, value, _bytes(key), error.code))
    if problems and not force:
        for each in problems[:_SHOWN_PROBLEMS]:
            problem(each)
        if len(problems) > _SHOWN_PROBLEMS:
            note(f"and {len(problems) - _SHOWN_PROBLEMS} more")
        note("nothing was published; --force publishes what cannot be read, as it is and without a key")
        raise typer.Exit(Exit.FAILED)
    return payloads


def _content(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"Cannot read {file}: {error.strerror}.") from error


def _tell(payload: Payload, topic: str, placed: tuple[int, int] | None, *, as_json: bool) -> None:
    partition, offset = placed or (None, None)
    key = readable(payload.key)
    if as_json:
        print_json(
            {
                "topic": topic,
                "partition": partition,
                "offset": offset,
                "key": key,
                "type": payload.said,
                "source": payload.source,
                "bytes": len(payload.value),
            }
        )
        return
    place = f"{topic}/{partition}/{offset}" if placed else topic
    if out.is_terminal:
        fields = [cell(place, "cyan"), cell(payload.said), cell(key, "bold"), cell(payload.source, "dim")]
        out.print(Text("  ").join(fields), soft_wrap=True)
    else:
        line(place, payload.said, key, payload.source)


def _without_line_end(data: bytes) -> bytes:
    return data.removesuffix(b"\n").removesuffix(b"\r")


def _is_json(data: bytes) -> bool:
    try:
        from_json(data)
    except ValueError:
        return False
    return True


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(from_json(data), dict)
    except ValueError:
        return False


def _bytes(key: str | None) -> bytes | None:
    return key.encode() if key is not None else None


def _records(count: int) -> str:
    return f"{count} record" if count == 1 else f"{count} records"
