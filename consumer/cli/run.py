"""`moorage run`: the service."""

import asyncio
import os
import signal
import sys

import typer

from consumer.app import Moorage
from consumer.cli.console import EXPECTED_ERRORS, Exit, fail, load_settings, run_async
from consumer.ops.logging import configure_logging


def run() -> None:
    """Consume reservation events and keep the environments they ask for.

    SIGTERM or SIGINT finishes what is running and leaves the group in good order; a second one ends at once and lists
    what was left. Exit codes: 0 all finished, 3 something was left after the drain timeout, 4 forced.
    """
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    try:
        service = Moorage(settings)
    except EXPECTED_ERRORS as error:
        fail(str(error))
    if not run_async(serve(service)):
        raise typer.Exit(Exit.UNFINISHED)


async def serve(service: Moorage) -> bool:
    """Run `service` until a signal asks it to stop."""
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            _leave_at_once(service)
        asked = True
        service.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        return await service.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _leave_at_once(service: Moorage) -> None:
    unfinished = service.unfinished()
    sys.stderr.write(f"forced to stop; {len(unfinished)} left, they are handled again after the next start:\n")
    for each in unfinished[:200]:
        place = f"{each.topic}/{each.partition}/{each.offset}"
        sys.stderr.write(f"  {each.key}  {each.stage}  attempt {each.attempt}  {each.age:.1f} s  {place}\n")
    sys.stderr.flush()
    # Not sys.exit: whatever blocks the way out is what made somebody send a second signal.
    os._exit(Exit.FORCED)
