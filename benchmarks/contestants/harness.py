"""What every Python contestant shares: the handler and its log, and the talk with the runner.

The talk is lines on standard input and output, the same for contestants in other languages:

    contestant: READY      everything is imported, nothing is connected
    runner:     GO         the clock runs
    contestant: HANDLED    the last record's handler has returned; it commits, if it does not commit by itself
    runner:     STOP       the offsets were seen to be committed, the clock has stopped
    contestant: writes its log (see `Handler.write`) and exits
"""

import asyncio
import json
import sys
import threading
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic_ns
from typing import Any


@dataclass(frozen=True)
class Task:
    """What to consume, and how. `settings` are the contestant's own."""

    bootstrap: str
    topic: str
    group: str
    partitions: int
    records: int
    concurrency: int
    log: str = ""
    uvloop: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


class Handler:
    """Takes as long as each record says, and notes when that was."""

    def __init__(self, records: int) -> None:
        self.all_handled = asyncio.Event()
        self._unseen = records
        self._seen = bytearray(records)
        self._log = array("q")

    async def __call__(self, value: bytes) -> None:
        index_text, micros, _ = value.split(b" ", 2)
        index = int(index_text)
        started = monotonic_ns()
        if micros != b"0":
            await asyncio.sleep(int(micros) / 1e6)
        self._log.extend((index, started, monotonic_ns()))
        if not self._seen[index]:
            self._seen[index] = 1
            self._unseen -= 1
            if not self._unseen:
                say("HANDLED")
                self.all_handled.set()

    def write(self, path: str) -> None:
        """Three native 64-bit integers for each handling: record, start and end (nanoseconds, CLOCK_MONOTONIC)."""
        Path(path).write_bytes(self._log.tobytes())


Consume = Callable[[Task, Handler, asyncio.Event], Awaitable[None]]
"""Consumes until the event is set; after `Handler.all_handled` it may commit, or stop, by itself."""


def main(consume: Consume) -> None:
    """Run a contestant that handles a trace."""

    async def consume_and_write(task: Task, stop: asyncio.Event) -> None:
        handler = Handler(task.records)
        await consume(task, handler, stop)
        handler.write(task.log)

    run(consume_and_write)


def run(work: Callable[[Task, asyncio.Event], Awaitable[None]]) -> None:
    """Run a contestant of any kind, from READY until it returns after STOP."""
    task = Task(**json.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=_loop_factory(task)) as runner:
        say("READY")
        if sys.stdin.readline() != "GO\n":
            sys.exit("the runner has gone")
        runner.run(_until_stop(work, task))


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def _until_stop(work: Callable[[Task, asyncio.Event], Awaitable[None]], task: Task) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def listen() -> None:
        sys.stdin.readline()  # STOP, or the end of a runner that is gone
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=listen, name="the runner's word", daemon=True).start()
    await work(task, stop)


def _loop_factory(task: Task) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not task.uvloop:
        return None
    import uvloop

    return uvloop.new_event_loop
