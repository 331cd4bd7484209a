"""Running one contestant: a process that says when it is ready, is told to go, and is watched from outside."""

import asyncio
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.machine import ROOT, stalled

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 40.0


class ContestantError(Exception):
    """A contestant did not do its part; the message says which part, and what it wrote last."""


class Contestant:
    """A running contestant that has said READY."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._meter = psutil.Process(process.pid)

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())

    async def hear(self, word: str, timeout: float) -> None:
        """Return when it says this word. Raises ContestantError when it says another, or nothing for `timeout` s."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            raise ContestantError(f"no {word} within {timeout:.0f} s") from error
        if line.strip() != word.encode():
            raise ContestantError(f"{line!r} instead of {word}")

    def cpu(self) -> float:
        """Seconds of processor time that it and its children have used, user and system together."""
        family = [self._meter, *self._meter.children(recursive=True)]
        return sum(sum(each.cpu_times()[:2]) for each in family)

    def resident(self, *, peak: bool = False) -> int:
        """Resident memory now, or the most there ever was, in KiB."""
        status = Path(f"/proc/{self._meter.pid}/status").read_text()
        return int(status.partition("VmHWM:" if peak else "VmRSS:")[2].split()[0])


@asynccontextmanager
async def started(command: list[str], stderr: Path) -> AsyncIterator[Contestant]:
    """A contestant for as long as the block lasts; then it is told to STOP and has to exit in good order.

    Raises ContestantError.
    """
    with stderr.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=output, cwd=ROOT)
    try:
        contestant = Contestant(process)
        await contestant.hear("READY", _START_TIMEOUT)
        yield contestant
        contestant.tell("STOP")
        async with asyncio.timeout(_STOP_TIMEOUT):
            await process.wait()
    except (ContestantError, TimeoutError, ConnectionError, psutil.NoSuchProcess) as error:
        raise ContestantError(f"{type(error).__name__}: {error}; it wrote: {_tail(stderr)}") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ContestantError(f"exit code {process.returncode}; it wrote: {_tail(stderr)}")


@dataclass(frozen=True)
class Run:
    """Seconds from GO until the last handler returned, and until everything was committed.

    `cpu` is processor time in seconds from GO until then; `rss` the most memory, in KiB. `stalled` tells how far to
    trust the rest: the share of the time in which something on this machine waited for a processor.
    """

    handled: float
    committed: float
    cpu: float
    rss: int
    stalled: float


async def run_to_the_end(
    command: list[str], committed: Callable[[], Awaitable[None]], *, timeout: float, stderr: Path
) -> Run:
    """Start a contestant, let it go, and wait until it has HANDLED everything and `committed()` returns.

    Raises ContestantError.
    """
    async with started(command, stderr) as contestant:
        used, waited, began = contestant.cpu(), stalled(), time.perf_counter()
        contestant.tell("GO")
        await contestant.hear("HANDLED", timeout)
        handled = time.perf_counter() - began
        await committed()
        elapsed = time.perf_counter() - began
        disturbed = (stalled() - waited) / elapsed
        return Run(handled, elapsed, contestant.cpu() - used, contestant.resident(peak=True), disturbed)


def _tail(stderr: Path) -> str:
    return stderr.read_text(errors="replace").strip()[-2000:] or "nothing"
