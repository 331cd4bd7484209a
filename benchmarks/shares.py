"""Environments created and removed, as a share of what a bare client does on the same engine in the same round."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.contestants.harness import Task
from benchmarks.machine import quiet, stalled
from benchmarks.process import started
from benchmarks.report import Table, say

Run = dict[str, Any]
"""What was measured of one contestant in one round."""


async def came_and_went(module: str, settings: dict[str, Any], count: int, workers: int, *, timeout: float) -> Run:
    """A contestant that lets so many environments come and go, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        log = Path(folder, "log")
        task = Task("", "", "", 0, count, workers, log=str(log), settings=settings)
        command = [sys.executable, "-m", f"benchmarks.contestants.{module}", json.dumps(asdict(task))]
        loop = asyncio.get_running_loop()
        async with started(command, Path(folder, "stderr")) as contestant:
            used, waited, began = contestant.cpu(), stalled(), loop.time()
            contestant.tell("GO")
            await contestant.hear("HANDLED", timeout)
            cpu, disturbed = contestant.cpu() - used, (stalled() - waited) / (loop.time() - began)
        phases: dict[str, Any] = json.loads(log.read_text())  # noqa: ASYNC240 - nothing else goes on
        return phases | {"cpu": cpu, "stalled": disturbed, "environments": count}


async def in_turns(
    titles: Sequence[str], measured: Callable[[str], Awaitable[Run]], *, rounds: int, count: int, patience: float
) -> list[Run]:
    """All contestants in each round, in this order or the other way round; each when the machine is quiet."""
    runs: list[Run] = []
    for number in range(rounds):
        for title in titles if number % 2 == 0 else reversed(titles):
            await quiet(patience)
            run = await measured(title)
            progress(title, run)
            runs.append({"title": title, "count": count, "round": number} | run)
    return runs


def progress(title: str, run: Run) -> None:
    say(
        f"  {title:<36} {_seconds(run, 'created'):6.2f} + {_seconds(run, 'removed'):.2f} s  "
        f"cpu {run['cpu']:5.2f} s  stalled {run['stalled']:4.0%}"
    )


def throughput(runs: Sequence[Run], titles: Sequence[str], title: str) -> Table:
    """Of all titles; the first is the bare client's."""
    bare = {each["round"]: each for each in runs if each["title"] == titles[0]}
    counting = any("requests" in each for each in runs)
    rows = []
    for name in titles:
        own = [each for each in runs if each["title"] == name]

        def took(*phases: str, own: Sequence[Run] = own) -> float:
            return median(_seconds(each, *phases) for each in own)

        def share(*phases: str, own: Sequence[Run] = own) -> float:
            return median(_seconds(bare[each["round"]], *phases) / _seconds(each, *phases) for each in own)

        count = own[0]["count"]
        row = [
            name,
            f"{took('created'):.2f}",
            f"{took('removed'):.2f}",
            f"{count / took('created', 'removed'):.1f}",
            f"{share('created'):.2f}",
            f"{share('removed'):.2f}",
            f"{share('created', 'removed'):.2f}",
            f"{median(each['cpu'] for each in own) / count * 1e3:.1f}",
            f"{median(each['stalled'] for each in own):.0%}",
        ]
        if counting:
            row.append(f"{median(each['requests'] for each in own):.1f}")
        rows.append(row)
    header = ["", "creating, s", "removing, s", "both/s", "creating", "removing", "of bare", "CPU ms each", "stalled"]
    notes = [
        "Seconds are medians; shares of the bare client's throughput are medians of the rounds' own.",
        "CPU: of the client's process alone. Stalled: while it was measured, something waited for a processor.",
    ]
    return Table(title, header + ["requests each"] * counting, rows, notes)


def latencies(runs: Sequence[Run]) -> Table:
    """Of runs of the whole service."""
    rows = []
    for phase, event in (("created", "START to provisioned"), ("removed", "END to released")):
        for alone in (False, True):
            seconds = [each for run in runs for each in run[phase]["alone" if alone else "single"]]
            cuts = quantiles(seconds, n=100, method="inclusive")
            how = "one after another" if alone else "all at once"
            rows.append([f"{event}, {how}", f"{len(seconds)}", f"{cuts[49]:.2f}", f"{cuts[98]:.2f}"])
    return Table(
        "Seconds from publishing an event until its result was received",
        ["", "events", "p50", "p99"],
        rows,
        ["All at once: most of it is waiting for a worker, so it grows with their number."],
    )


def _seconds(run: Run, *phases: str) -> float:
    return float(sum(run[phase]["seconds"] for phase in phases))
