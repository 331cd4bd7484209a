"""`moorage watch`: what goes out, as it goes out."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from consumer.cli.console import Exit, run_async
from consumer.cli.kafka import begin
from consumer.cli.outbound import OutboundView, body_of, view_of
from consumer.cli.text import note, readable
from consumer.parts import connection_of, topics_of
from consumer.settings import Settings
from consumer.transport.reader import Message, Reader
from schemas.cloudevents import NOTIFICATION_TYPE, PROGRESS_TYPE
from schemas.outbound import Result


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are shown. Only a user makes it necessary to parse: all else is in the headers."""

    reservation: str | None = None
    user: str | None = None
    results_only: bool = False

    def lets_pass(self, message: Message) -> bool:
        if self.results_only and message.header("ce_type") in (NOTIFICATION_TYPE, PROGRESS_TYPE):
            return False
        if self.reservation is not None and reservation_of(message) != self.reservation:
            return False
        return self.user is None or self.user in _users(message)


@dataclass(frozen=True, slots=True)
class Until:
    """When watching ends: after so many messages, or so many seconds."""

    count: int | None = None
    seconds: float | None = None


def watch(
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with what is on the topic already.")
    ] = False,
    reservation: Annotated[str | None, typer.Option(help="Only this reservation.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user, by id or name.")] = None,
    results: Annotated[bool, typer.Option("--results", help="Leave notifications and progress out.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.0, help="End after so many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each message.")] = False,
) -> None:
    """Show results and notifications as they are published.

    On a terminal, a table of the latest result of each reservation; elsewhere a line for each message. Ctrl-C ends it.
    Exit codes: 0 ended as asked, 3 the timeout came before --count messages did, 5 it came before any did.
    """
    settings = begin()
    wanted = Wanted(reservation, user, results)
    raise typer.Exit(run_async(_watch(settings, wanted, Until(count, timeout), view_of(as_json), from_beginning)))


async def _watch(settings: Settings, wanted: Wanted, until: Until, view: OutboundView, from_beginning: bool) -> Exit:
    seen, interrupted = 0, False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True

    topic = topics_of(settings).outbound
    async with Reader(connection_of(settings), topic) as reader:
        try:
            with view:
                async with (
                    asyncio.timeout(until.seconds) as limit,
                    aclosing(reader.follow(from_beginning=from_beginning)) as messages,
                ):
                    with _on_signal(limit, interrupt):
                        note(f"watching {topic} at {settings.bootstrap_servers}")
                        async for message in messages:
                            if not wanted.lets_pass(message):
                                continue
                            view.show(message)
                            seen += 1
                            if seen == until.count:
                                return Exit.OK
        except TimeoutError:
            pass
    if interrupted:
        return Exit.OK
    if not seen:
        return Exit.NOT_FOUND
    return Exit.OK if until.count is None else Exit.UNFINISHED


def reservation_of(message: Message) -> str | None:
    """The reservation a message is about, without parsing it."""
    return message.header("ce_subject") or readable(message.key)


def _users(message: Message) -> set[str | None]:
    body = body_of(message)
    if body is None:
        return set()
    return {body.user_id, body.username} if isinstance(body, Result) else {body.user_id}


@contextmanager
def _on_signal(limit: asyncio.Timeout, interrupt: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM let `limit` run out at once."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        interrupt()
        if not limit.expired():
            limit.reschedule(loop.time())

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
