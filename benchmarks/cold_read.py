"""`cold-read`: the whole service reading events that lead to nothing, beside loops that do nothing but read.

Every event is decoded, its reservation's state looked up, the decision made and its result published, but no runtime
has anything to do: what is measured is what Moorage itself costs. The clock starts with the connecting, so each is
measured with two numbers of records; the difference tells what one more record costs.
"""

import asyncio
import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contestants.harness import Task
from benchmarks.events import over_and_done, tombstones
from benchmarks.kafka import real_kafka
from benchmarks.machine import describe, quiet
from benchmarks.process import Run, run_to_the_end
from benchmarks.report import Table, publish, say
from benchmarks.topics import Topics, topics_on, unique

_PARTITIONS = 8
_FEW, _MANY = 5_000, 25_000
_TIMEOUT = 120.0


@dataclass(frozen=True)
class _Stage:
    """Filled topics of one size."""

    records: int
    inbound: str
    outbound: str
    state: str
    dead_letters: str
    counts: dict[int, int]


@dataclass(frozen=True)
class _Reader:
    title: str
    module: str
    settings: Callable[[_Stage], dict[str, Any]] = field(default=lambda stage: {})
    uvloop: bool = False


def _of_service(stage: _Stage) -> dict[str, Any]:
    return {
        "outbound_topic": stage.outbound,
        "state_topic": stage.state,
        "dead_letter_topic": stage.dead_letters,
        "commit_interval": 0.1,
    }


def _quietly(stage: _Stage) -> dict[str, Any]:
    return _of_service(stage) | {"log_level": "warning"}


_READING = _Reader("bare aiokafka, reading", "bare_read")
_PRODUCING = _Reader("bare aiokafka, reading, producing", "bare_read", lambda stage: {"answers": stage.outbound})
_READERS = (
    _READING,
    _PRODUCING,
    _Reader("Moorage", "service", _of_service),
    _Reader("Moorage, logging warnings only", "service", _quietly),
    _Reader("the same on uvloop", "service", _quietly, uvloop=True),
)


def run(arguments: Namespace) -> None:
    sizes = (_FEW // 5, _MANY // 5) if arguments.quick else (_FEW, _MANY)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    about = describe(arguments.words)

    async def measure(bootstrap: str) -> None:
        runs: list[dict[str, Any]] = []
        async with topics_on(bootstrap) as topics:
            for size in sizes:
                say(f"\ncold read: {size:,} records")
                stage = await _prepare(topics, size)
                for number in range(rounds):
                    for reader in _READERS:
                        await quiet(arguments.patience)
                        measured = await _read(topics, stage, reader)
                        say(
                            f"  {reader.title:<38} {measured.committed:6.2f} s  cpu {measured.cpu:5.2f} s  "
                            f"stalled {measured.stalled:4.0%}"
                        )
                        runs.append({"reader": reader.title, "records": size, "round": number} | asdict(measured))
        publish("cold-read", about, [_table(runs, sizes)], runs)

    with real_kafka() as bootstrap:
        asyncio.run(measure(bootstrap))


async def _prepare(topics: Topics, records: int) -> _Stage:
    inbound, outbound, dead_letters = [
        await topics.create(name, _PARTITIONS) for name in ("inbound", "outbound", "dead-letters")
    ]
    state = await topics.create("state", _PARTITIONS, **{"cleanup.policy": "compact"})
    await topics.fill(state, tombstones(records // 2))
    counts = await topics.fill(inbound, over_and_done(records // 2))
    return _Stage(records, inbound, outbound, state, dead_letters, counts)


async def _read(topics: Topics, stage: _Stage, reader: _Reader) -> Run:
    task = Task(
        bootstrap=topics.bootstrap,
        topic=stage.inbound,
        group=unique(reader.module),
        partitions=_PARTITIONS,
        records=stage.records,
        concurrency=0,
        uvloop=reader.uvloop,
        settings=reader.settings(stage),
    )
    command = [sys.executable, "-m", f"benchmarks.contestants.{reader.module}", json.dumps(asdict(task))]

    async def committed() -> None:
        await topics.committed(task.group, stage.inbound, stage.counts, timeout=_TIMEOUT)

    before = await topics.size(stage.outbound)
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        run = await run_to_the_end(command, committed, timeout=_TIMEOUT, stderr=Path(folder, "stderr"))
    published = await topics.size(stage.outbound) - before
    expected = 0 if reader.module == "bare_read" and not task.settings else stage.records
    assert published == expected, f"{reader.title} published {published} messages for {stage.records} records"
    assert not await topics.size(stage.dead_letters), f"{reader.title} could not read the events"
    return run


def _table(runs: list[dict[str, Any]], sizes: tuple[int, int]) -> Table:
    few, many = sizes

    def typical(reader: _Reader, size: int, what: str) -> float:
        mine = [each for each in runs if (each["reader"], each["records"]) == (reader.title, size)]
        return float(median(each[what] for each in mine))

    def further(reader: _Reader, what: str) -> float:
        """Seconds that each further record costs."""
        return (typical(reader, many, what) - typical(reader, few, what)) / (many - few)

    rows = []
    for reader in _READERS:
        cold, marginal = typical(reader, few, "committed"), further(reader, "committed")
        rows.append(
            [
                reader.title,
                f"{cold:.2f}",
                f"{few / cold:,.0f}",
                f"{cold / typical(_READING, few, 'committed'):.1f}",
                f"{cold / typical(_PRODUCING, few, 'committed'):.1f}",
                f"{1 / marginal:,.0f}" if marginal > 0 else "–",
                f"{marginal / further(_PRODUCING, 'committed'):.1f}",
                f"{further(reader, 'cpu') * 1e6:.0f}",
            ]
        )
    return Table(
        f"Cold read: {few:,} records, and what each further record costs",
        ["", "seconds", "records/s", "× reading", "× producing", "further/s", "× producing", "CPU µs each"],
        rows,
        [
            "Seconds from connecting until all is published and committed; × is the multiple of the bare loop's time.",
            f"Further records: the difference between {few:,} and {many:,}.",
        ],
    )
