"""What all commands share: where output goes, how errors look, and what exit codes mean."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from consumer.catalog.errors import CatalogError
from consumer.ops.logging import configure_logging
from consumer.parts import ConfigurationError
from consumer.settings import Settings
from consumer.transport.connection import TransportError

T = TypeVar("T")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Exit(IntEnum):
    """Exit codes that scripts can rely on (docs/reference/cli.md)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNFINISHED = 3
    FORCED = 4
    NOT_FOUND = 5


class CommandError(Exception):
    """A command could not do its job; the message is all that is shown."""


EXPECTED_ERRORS = (CommandError, ConfigurationError, CatalogError, TransportError)


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment; what does not fit ends the command with a line for each mistake."""
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        for mistake in error.errors():
            where = ".".join(str(part) for part in mistake["loc"]) or "settings"
            err.print(f"[red]error[/] {escape(where)}: {escape(mistake['msg'])}", soft_wrap=True, emoji=False)
        raise typer.Exit(Exit.USAGE) from error
    return settings


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine, on uvloop where it is installed; expected errors end it with one clear line."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(main)
    except* EXPECTED_ERRORS as group:
        fail(str(_first(group)))
    except* KeyboardInterrupt as group:
        raise typer.Exit(130) from group
    raise AssertionError("unreachable")


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    err.print(f"[red]error[/] {escape(message)}", soft_wrap=True, emoji=False)
    raise typer.Exit(code)


def print_json(value: object) -> None:
    """One compact JSON document on a line of standard output, with nothing in it that could move a cursor."""
    # JSON escapes C0 alone. C1 controls, bidi overrides and unpaired surrogates only ever are within strings.
    text = json.dumps(value, ensure_ascii=False, default=str)
    sys.stdout.write("".join(char if char.isprintable() else _escaped(char) for char in text) + "\n")
    sys.stdout.flush()


def quiet_logging() -> None:
    """For commands whose output is for people: only what went wrong is logged."""
    configure_logging("error", "console")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
