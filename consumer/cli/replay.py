"""`moorage dlq replay`: dead letters back to where they came from."""

import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from consumer.cli.console import Exit, out, print_json, run_async
from consumer.cli.kafka import begin
from consumer.cli.letters import Place, concerns, place_of
from consumer.cli.text import cell, line, note, problem, refuse
from consumer.parts import connection_of, topics_of
from consumer.settings import Settings
from consumer.transport.clients import NoAnswer
from consumer.transport.connection import TransportError
from consumer.transport.deadletters import StoredLetter, destination, stored_letter
from consumer.transport.deadletters import replay as put_back
from consumer.transport.publisher import Publisher
from consumer.transport.reader import Reader


class Fate(StrEnum):
    """What became of a dead letter that was to be replayed."""

    REPLAYED = "replayed"
    WOULD_REPLAY = "would replay"
    REFUSED = "refused"
    FAILED = "failed"
    NOT_FOUND = "not found"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one replay went: where the record is now, or why it is not."""

    place: Place
    fate: Fate
    to: str | None = None
    why: str | None = None
    kafka_is_silent: bool = False


_STYLES = {Fate.REPLAYED: "green", Fate.WOULD_REPLAY: "cyan"}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: those at these places, or all there are (of one reservation, up to these offsets)."""

    places: tuple[Place, ...] = ()
    reservation: str | None = None
    up_to: dict[int, int] | None = None


def replay(
    places: Annotated[
        list[Place] | None,
        typer.Argument(metavar="PARTITION:OFFSET", parser=place_of, help="As `dlq list` has them."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters there are.")] = False,
    reservation: Annotated[str | None, typer.Option(help="All dead letters about this reservation.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each dead letter.")] = False,
) -> None:
    """Publish dead letters again: the original bytes, key and headers, to the topic and partition they came from.

    Where that partition is gone, the key decides. The header `moorage-replayed-from` is added. The dead letters stay
    where they are, so replaying one twice publishes it twice; handling an event twice does no harm.
    """
    if bool(places) + every + (reservation is not None and not every) != 1:
        raise typer.BadParameter("Name dead letters by PARTITION:OFFSET, or use --all or --reservation.")
    settings = begin()
    selection = Selection(tuple(dict.fromkeys(places or ())), reservation)
    if not yes and not dry_run:
        selection = _confirmed(settings, selection)
    fates = run_async(_replay(settings, selection, dry_run=dry_run, as_json=as_json))
    _sum_up(fates, selection)


def _confirmed(settings: Settings, selection: Selection) -> Selection:
    """Ask; what comes onto the topic meanwhile is not part of what was agreed to."""
    if not _somebody_there():
        refuse("There is nobody to ask: --yes replays without asking, --dry-run says what would be done.", Exit.USAGE)
    if selection.places:
        count = len(selection.places)
    else:
        count, up_to = run_async(_count(settings, selection))
        selection = Selection((), selection.reservation, up_to)
    if count and not typer.confirm(f"Replay {_letters(count)}?", err=True):
        raise typer.Exit(Exit.OK)
    return selection


def _somebody_there() -> bool:
    return sys.stdin.isatty()


async def _count(settings: Settings, selection: Selection) -> tuple[int, dict[int, int]]:
    count = 0
    up_to: dict[int, int] = {}
    async with (
        Reader(connection_of(settings), topics_of(settings).dead_letter) as reader,
        aclosing(_selected(reader, selection)) as letters,
    ):
        async for place, _ in letters:
            count += 1
            up_to[place.partition] = place.offset
    return count, up_to


async def _replay(settings: Settings, selection: Selection, *, dry_run: bool, as_json: bool) -> Counter[Fate]:
    fates: Counter[Fate] = Counter()
    connection, topics = connection_of(settings), topics_of(settings)
    own_topics = frozenset({topics.outbound, topics.state, topics.dead_letter})
    async with (
        Reader(connection, topics.dead_letter) as reader,
        Publisher(connection) as publisher,
        aclosing(_selected(reader, selection)) as letters,
    ):
        async for place, stored in letters:
            outcome = await _attempt(publisher, place, stored, own_topics, dry_run=dry_run)
            fates[outcome.fate] += 1
            _tell(outcome, as_json=as_json)
            if outcome.kafka_is_silent:
                problem("Kafka no longer answers; the dead letters after this one were not tried.")
                break
    return fates


async def _attempt(
    publisher: Publisher, place: Place, stored: StoredLetter | None, own_topics: frozenset[str], *, dry_run: bool
) -> Outcome:
    if stored is None:
        return Outcome(place, Fate.NOT_FOUND, why="There is no dead letter at this place.")
    if refusal := _refusal(stored, own_topics):
        return Outcome(place, Fate.REFUSED, why=refusal)
    try:
        if dry_run:
            topic, partition = await destination(publisher, stored)
            return Outcome(place, Fate.WOULD_REPLAY, to=f"{topic}/{'by key' if partition is None else partition}")
        return Outcome(place, Fate.REPLAYED, to="/".join(map(str, await put_back(publisher, stored))))
    except TransportError as error:
        return Outcome(place, Fate.FAILED, why=str(error), kafka_is_silent=isinstance(error, NoAnswer))


async def _selected(reader: Reader, selection: Selection) -> AsyncGenerator[tuple[Place, StoredLetter | None], None]:
    for place in selection.places:
        found = await reader.at(place.partition, place.offset)
        yield place, stored_letter(found) if found is not None else None
    if selection.places:
        return
    async with aclosing(reader.stored()) as messages:
        async for message in messages:
            if selection.up_to is not None and message.offset > selection.up_to.get(message.partition, -1):
                continue
            stored = stored_letter(message)
            if concerns(stored, selection.reservation):
                yield Place(message.partition, message.offset), stored


def _refusal(stored: StoredLetter, own_topics: frozenset[str]) -> str | None:
    if stored.problem is None and stored.letter is not None and stored.letter.topic in own_topics:
        return f"It says it came from {stored.letter.topic}, which Moorage writes and does not read."
    return stored.problem


def _tell(outcome: Outcome, *, as_json: bool) -> None:
    place, fate = outcome.place, outcome.fate
    if as_json:
        where = {"partition": place.partition, "offset": place.offset}
        print_json(where | {"outcome": fate.name.lower(), "to": outcome.to, "why": outcome.why})
    elif out.is_terminal:
        fields = [cell(place, "cyan"), cell(fate, _STYLES.get(fate, "red")), cell(outcome.to or outcome.why)]
        out.print(Text("  ").join(fields), soft_wrap=True)
    else:
        line(place, fate, outcome.to or outcome.why)


def _sum_up(fates: Counter[Fate], selection: Selection) -> None:
    """Say how it went and end with what that means for scripts."""
    if not fates:
        note("no dead letters to replay")
        raise typer.Exit(Exit.NOT_FOUND if selection.reservation is not None else Exit.OK)
    note(", ".join(f"{count} {fate}" for fate, count in fates.items()))
    if fates[Fate.REPLAYED]:
        note("the dead letters stay where they are: replaying them once more publishes them once more")
    if fates[Fate.REFUSED] or fates[Fate.FAILED]:
        raise typer.Exit(Exit.FAILED)
    if fates[Fate.NOT_FOUND]:
        raise typer.Exit(Exit.NOT_FOUND)


def _letters(count: int) -> str:
    return f"{count} dead letter" if count == 1 else f"{count} dead letters"
