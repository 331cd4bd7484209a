"""`memory`: what a record in flight costs, as resident memory above that of the idle process."""

import asyncio
import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contestants.harness import Task
from benchmarks.events import to_come
from benchmarks.kafka import real_kafka
from benchmarks.machine import describe
from benchmarks.process import started
from benchmarks.report import Table, publish, say
from benchmarks.topics import Topics, topics_on, unique
from benchmarks.workloads import VALUE_BYTES

_PARTITIONS = 8
_RECORDS = 10_000
_SETTLING = 1.0
_TIMEOUT = 60.0


@dataclass(frozen=True)
class _Kind:
    title: str
    module: str


_KINDS = (
    _Kind("intake and dispatcher", "held_dispatch"),
    _Kind("the whole service", "held_service"),
)


def run(arguments: Namespace) -> None:
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    about = describe(arguments.words)

    async def measure(bootstrap: str) -> None:
        runs = []
        async with topics_on(bootstrap) as topics:
            for _ in range(rounds):
                for kind in _KINDS:
                    idle, full = await _hold(topics, kind)
                    say(f"memory: {kind.title}: {idle / 1024:.1f} MiB idle, {full / 1024:.1f} MiB full")
                    runs.append({"kind": kind.title, "idle_kib": idle, "full_kib": full})
        publish("memory", about, [_table(runs)], runs)

    with real_kafka() as bootstrap:
        asyncio.run(measure(bootstrap))


async def _hold(topics: Topics, kind: _Kind) -> tuple[int, int]:
    """Resident KiB of the process that has joined its group, and of the same process with all records in flight."""
    names = {name: await topics.create(name, _PARTITIONS) for name in ("inbound", "outbound", "dead")}
    names["state"] = await topics.create("state", _PARTITIONS, **{"cleanup.policy": "compact"})
    task = Task(
        bootstrap=topics.bootstrap,
        topic=names["inbound"],
        group=unique("memory"),
        partitions=_PARTITIONS,
        records=_RECORDS,
        concurrency=64,
        settings={
            "outbound_topic": names["outbound"],
            "state_topic": names["state"],
            "dead_letter_topic": names["dead"],
            "max_buffered_records": _RECORDS,
            "drain_timeout": 0.1,
            "log_level": "error",
        },
    )
    command = [sys.executable, "-m", f"benchmarks.contestants.{kind.module}", json.dumps(asdict(task))]
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        async with started(command, Path(folder, "stderr")) as contestant:
            contestant.tell("GO")
            await asyncio.sleep(5 * _SETTLING)  # joined, restored, polling
            idle = contestant.resident()
            await topics.fill(task.topic, _starts())
            await contestant.hear("HELD", _TIMEOUT)
            await asyncio.sleep(_SETTLING)
            return idle, contestant.resident()


def _starts() -> Iterator[tuple[bytes, bytes]]:
    return to_come(_RECORDS, size=VALUE_BYTES)


def _table(runs: list[dict[str, Any]]) -> Table:
    rows = []
    for kind in _KINDS:
        mine = [each for each in runs if each["kind"] == kind.title]
        idle, full = (median(each[name] for each in mine) for name in ("idle_kib", "full_kib"))
        rows.append([kind.title, f"{idle / 1024:.1f}", f"{full / 1024:.1f}", f"{(full - idle) / _RECORDS:.2f}"])
    return Table(
        f"Resident memory with {_RECORDS:,} records of {VALUE_BYTES} bytes in flight",
        ["", "idle, MiB", "full, MiB", "KiB a record"],
        rows,
    )
