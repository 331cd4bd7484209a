"""What there is to see of reservations: what is remembered of them, and what the runtimes show."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import typer
from pydantic import ValidationError

from consumer.catalog.identity import reservation_key
from consumer.cli.text import problem
from consumer.handling.errors import ProvisionerError
from consumer.handling.ports import Environment, Provisioner
from consumer.parts import ConfigurationError, connection_of, provisioners_of, topics_of
from consumer.settings import Settings
from consumer.transport.reader import read_topic
from schemas.state import ReservationState

T = TypeVar("T")

_PATIENCE = 15.0
_STUB = b'{"tooLarge":'
"""How that begins which lies there in place of a state that no broker took. Nothing is left of the state."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A state, and the partition it lies in: that of the last event about the reservation."""

    state: ReservationState
    partition: int


@dataclass(frozen=True, slots=True)
class Memory:
    """The state topic by reservation. `unreadable` are those of which there is a state that cannot be read."""

    states: dict[str, Remembered]
    unreadable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sight:
    """The environments on the runtimes that were `asked`, those aside that did not `answer`."""

    environments: tuple[Environment, ...] = ()
    asked: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()

    def and_also(self, other: "Sight") -> "Sight":
        return Sight(self.environments + other.environments, self.asked | other.asked, self.silent | other.silent)


def reservation_id(text: str) -> str:
    """A reservation's id on the command line, which may be anything that can be a record's key."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise typer.BadParameter(f"{text!r} is not UTF-8, as every reservation id is.") from error
    if not text:
        raise typer.BadParameter("A reservation id has at least one character.")
    return text


async def memory(settings: Settings, wanted: str | None = None) -> Memory:
    """What is remembered of all reservations, or of one. Raises `TransportError`.

    A reservation may have states in several partitions, when its records had several keys: the newest counts.
    """
    key = wanted.encode() if wanted is not None else None
    latest: dict[bytes, dict[int, bytes]] = {}
    async with aclosing(read_topic(connection_of(settings), topics_of(settings).state)) as messages:
        async for message in messages:
            if message.key is None or key not in (None, message.key):
                continue
            if message.value is None or message.value.startswith(_STUB):
                latest.get(message.key, {}).pop(message.partition, None)
            else:
                latest.setdefault(message.key, {})[message.partition] = message.value
    states: dict[str, Remembered] = {}
    unreadable = set()
    for each, by_partition in latest.items():
        try:
            found = [
                Remembered(ReservationState.model_validate_json(value), partition)
                for partition, value in by_partition.items()
            ]
        except ValidationError:
            unreadable.add(each.decode("utf-8", "replace"))
            continue
        if found:
            newest = max(found, key=_changed_at)
            states[newest.state.reservation_id] = newest
    return Memory(states, frozenset(unreadable))


def _changed_at(remembered: Remembered) -> datetime:
    return remembered.state.changed_at


async def all_environments(settings: Settings, runtimes: Iterable[str]) -> Sight:
    """Everything of this installation on these runtimes; one that does not answer is told on standard error."""
    return await _look(settings, runtimes, lambda provisioner: provisioner.list())


async def environments_of(settings: Settings, runtimes: Iterable[str], reservation: str) -> Sight:
    """The environments of one reservation."""
    key = reservation_key(settings.instance, reservation)

    async def find(provisioner: Provisioner) -> list[Environment]:
        found = await provisioner.find(key)
        return [found] if found is not None else []

    return await _look(settings, runtimes, find)


async def _look(
    settings: Settings, runtimes: Iterable[str], ask: Callable[[Provisioner], Awaitable[list[Environment]]]
) -> Sight:
    names = sorted(runtimes)
    async with asyncio.TaskGroup() as tasks:
        looking = {name: tasks.create_task(_ask(settings, name, ask)) for name in names}
    answers = {name: task.result() for name, task in looking.items()}
    return Sight(
        tuple(each for answer in answers.values() for each in answer or ()),
        frozenset(names),
        frozenset(name for name, answer in answers.items() if answer is None),
    )


async def _ask(
    settings: Settings, runtime: str, ask: Callable[[Provisioner], Awaitable[list[Environment]]]
) -> list[Environment] | None:
    """What one runtime shows, or None and an error on the terminal."""
    if (provisioner := provisioner_of(settings, runtime)) is None:
        return None
    try:
        return await answer_of(runtime, ask(provisioner))
    finally:
        await provisioner.close()


def is_of(runtime: str | None, wanted: str | None) -> bool:
    """Whether a runtime is the one that is wanted, or an engine of it; None wants all."""
    return wanted is None or runtime == wanted or (runtime is not None and runtime.startswith(f"{wanted}@"))


def chosen(runtimes: Iterable[str], wanted: str | None) -> frozenset[str]:
    """Those of these runtimes that are wanted; one that is not among them all the same."""
    found = frozenset(each for each in runtimes if is_of(each, wanted))
    return found if found or wanted is None else frozenset({wanted})


def provisioner_of(settings: Settings, runtime: str) -> Provisioner | None:
    """None, and an error on the terminal, for a runtime that this installation cannot use."""
    try:
        return provisioners_of(settings, frozenset({runtime}))[runtime]
    except ConfigurationError as error:
        problem(f"{runtime}: {error}")
        return None


async def answer_of(runtime: str, answer: Awaitable[T]) -> T | None:
    """What a runtime answers; None, and an error on the terminal, when it does not."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await answer
    except ProvisionerError as error:
        problem(f"{runtime} does not answer: {error.message}")
    except TimeoutError:
        problem(f"{runtime} does not answer: silent for {_PATIENCE:g} s")
    return None
