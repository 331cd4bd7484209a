"""The demonstration itself: raise the curtain, play the morning, prove it, end it, count."""

import asyncio
import os
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import typer

from consumer.cli.console import CommandError, Exit, load_settings, out, run_async
from consumer.cli.demo.scenario import Expected, Sent, changes, morning, noon
from consumer.cli.demo.show import Show, summary
from consumer.cli.demo.stage import Stage, set_stage
from consumer.cli.demo.tally import Tally
from consumer.ops.logging import configure_logging
from consumer.transport.publisher import Publisher
from consumer.transport.reader import read_topic

_PATIENCE = 45.0


def demo() -> None:
    """Play a morning of a teaching lab for real: some forty reservations, and everything that goes wrong on such days.

    Uses the Kafka of KAFKA_BOOTSTRAP_SERVERS or else an embedded broker, and Docker or else plain processes. Opens one
    of the environments to prove that it is there, ends them all, and fails if anything came out other than it should.
    """
    level = load_settings().log_level if "MOORAGE_LOG_LEVEL" in os.environ else "error"
    configure_logging(level, "console")
    if not run_async(_play()):
        raise typer.Exit(Exit.FAILED)


async def _play() -> bool:
    began = time.monotonic()
    tally, expected = Tally(), Expected()
    async with set_stage() as stage:
        out.print(f"[bold]Moorage[/] on {stage.broker}, environments as {stage.runtime}\n", soft_wrap=True)
        with Show(out, tally) as show:
            async with _running(stage), _listening(stage, tally, show), Publisher(stage.connection) as publisher:
                now = datetime.now(UTC)
                await _publish(publisher, stage, show, morning(now))
                await _until(tally, lambda: _morning_settled(tally), "the morning's reservations")
                await _publish(publisher, stage, show, changes(datetime.now(UTC)))
                await _until(tally, lambda: _changes_settled(tally), "what changed")
                await _open_one(show, tally)
                show.say("\n[bold]Noon[/]: all reservations end")
                await _publish(publisher, stage, show, noon(now))
                await _until(tally, lambda: _all_over(tally, expected), "the end of all reservations")
        left = await stage.left_running()
    out.print(summary(tally.as_expected(), expected, time.monotonic() - began, left))
    return tally.as_expected() == expected and not left


def _morning_settled(tally: Tally) -> bool:
    """Whether everything runs that is to run from the morning on: all but the one that comes later."""
    return tally.count("provisioned") >= Expected().provisioned - 1


def _changes_settled(tally: Tally) -> bool:
    """Whether nothing is under way any more; one reservation still has to expire."""
    counted, expected = tally.as_expected(), Expected()
    settled = set(Expected.__slots__) - {"released", "expired"}
    return all(getattr(counted, name) >= getattr(expected, name) for name in settled)


def _all_over(tally: Tally, expected: Expected) -> bool:
    return tally.count("released") >= expected.released and tally.count("expired") >= expected.expired


@asynccontextmanager
async def _running(stage: Stage) -> AsyncIterator[None]:
    """The service, stopped in good order at the end; its own failure ends the demonstration."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(stage.service.run(), name="moorage")
        try:
            yield
        finally:
            stage.service.stop()
            # Also when interrupted: what an engine is still creating could not be found yet, and so would be left.
            await asyncio.wait([serving])


@asynccontextmanager
async def _listening(stage: Stage, tally: Tally, show: Show) -> AsyncIterator[None]:
    """Two readers that see only what anybody sees: the outbound and the dead-letter topic."""

    async def outbound() -> None:
        async for message in read_topic(stage.connection, stage.topics.outbound, follow=True):
            kind = dict(message.headers).get("ce_type") or b""
            if (body := tally.add_outbound(kind.decode(), message.value or b"")) is not None:
                show.result(body)

    async def dead_letters() -> None:
        async for message in read_topic(stage.connection, stage.topics.dead_letter, follow=True):
            tally.add_dead_letter()
            why = dict(message.headers).get("moorage-dlt-error-code") or b""
            show.say(f"  [red]dead letter[/] {why.decode()}: {len(message.value or b'')} bytes, kept for the operator")

    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(outbound()), tasks.create_task(dead_letters())]
        try:
            yield
        finally:
            for reader in readers:
                reader.cancel()


async def _publish(publisher: Publisher, stage: Stage, show: Show, script: Iterable[Sent]) -> None:
    """Publish in order. What goes out in the same breath, the service takes in at once: an END then finds its START."""
    topic = stage.topics.inbound[0]
    await publisher.partitions(topic)  # known from here on, so that the first to go out is not the last
    async with asyncio.TaskGroup() as sending:
        for sent in script:
            if sent.note:
                show.say(f"  [dim]published[/]   {sent.note}")
            key = sent.key.encode() if sent.key is not None else None
            sending.create_task(publisher.send(topic, sent.value, key=key))
            if sent.pause:
                await asyncio.sleep(sent.pause)


async def _until(tally: Tally, reached: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            while not reached():
                tally.changed.clear()
                await tally.changed.wait()
    except TimeoutError as error:
        raise CommandError(f"waited {_PATIENCE:.0f} s for {what}; MOORAGE_LOG_LEVEL=info shows more") from error


async def _open_one(show: Show, tally: Tally) -> None:
    """Open an environment as its user would."""
    body = tally.one_open_page()
    if body is None:
        raise CommandError("no environment has a page to open")
    url = body["access"]["url"]
    page = await asyncio.to_thread(_read_page, url)
    words = " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())
    show.say(f"\n[bold]Opened[/] {url} for {body['username']}: “{words[:100]}”")


def _read_page(url: str) -> str:
    if not url.startswith("http://"):
        raise ValueError(f"not a page: {url}")
    with urllib.request.urlopen(url, timeout=5) as page:  # noqa: S310 - the scheme was looked at
        text: bytes = page.read(65_536)
    return text.decode("utf-8", "replace")
