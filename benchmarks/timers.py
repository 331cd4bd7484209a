"""`timers`: what a million timers cost: memory, arming them, and when all of them are due at once.

Without Kafka: what restoring and arming take together, beside a bare read of the topic, is part of `restore`.
"""

import asyncio
import json
import sys
import tempfile
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contestants.harness import Task
from benchmarks.machine import describe, quiet
from benchmarks.process import started
from benchmarks.report import Table, publish, say

_PARTITIONS = 8
_TIMERS = 1_000_000
_TIMEOUT = 600.0


def run(arguments: Namespace) -> None:
    timers = _TIMERS // 10 if arguments.quick else _TIMERS
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    about = describe(arguments.words)

    async def measure() -> None:
        runs: list[dict[str, Any]] = []
        say(f"\ntimers: {timers:,}")
        for number in range(rounds):
            await quiet(arguments.patience)
            for step in await _measured(timers):
                say(f"  {step['step']:<28} {step['seconds']:6.2f} s  longest turn {step['longest'] * 1e3:.0f} ms")
                runs.append({"timers": timers, "round": number} | step)
        publish("timers", about, [_table(runs, timers)], runs)

    asyncio.run(measure())


async def _measured(timers: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        log = Path(folder, "log")
        task = Task("", "", "", partitions=_PARTITIONS, records=timers, concurrency=0, log=str(log))
        command = [sys.executable, "-m", "benchmarks.contestants.ringing", json.dumps(asdict(task))]
        async with started(command, Path(folder, "stderr")) as contestant:
            contestant.tell("GO")
            await contestant.hear("HANDLED", _TIMEOUT)
        steps: list[dict[str, Any]] = json.loads(log.read_text())  # noqa: ASYNC240 - nothing else goes on
        return steps


def _table(runs: list[dict[str, Any]], timers: int) -> Table:
    rows = []
    for step in dict.fromkeys(each["step"] for each in runs):
        mine = [each for each in runs if each["step"] == step]
        seconds, cpu, longest, grown = (
            median(each[name] for each in mine) for name in ("seconds", "cpu", "longest", "grown")
        )
        count = mine[0]["count"]
        rows.append(
            [
                step,
                f"{count:,}",
                f"{seconds:.2f}",
                f"{cpu / count * 1e6:.1f}",
                f"{longest * 1e3:.0f}",
                f"{grown / 2**20:,.0f}",
                f"{grown / timers:,.0f}",
            ]
        )
    return Table(
        f"{timers:,} timers in {_PARTITIONS} heaps",
        ["", "times", "seconds", "CPU µs each", "longest turn, CPU ms", "MiB grown", "bytes a timer"],
        rows,
        [
            "Longest turn: for how much processor time at most nothing else got its turn of the event loop.",
            "Grown: resident memory above that before the step; the states themselves are in memory already.",
        ],
    )
