"""`restore`: what a member reads of the state topic before its first record, beside a loop that only reads it.

States are the size they have in practice: seven of ten ended, two run, one is to come. Those that run have a timer.
Those without an index are what releases before it wrote; each of them has to be decoded.
"""

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

from confluent_kafka import Producer

from benchmarks.contestants.harness import Task
from benchmarks.events import remembered
from benchmarks.kafka import real_kafka
from benchmarks.machine import describe, quiet, stalled
from benchmarks.process import started
from benchmarks.report import Table, publish, say
from benchmarks.topics import Topics, topics_on
from schemas.state_index import STATE_HEADER

_PARTITIONS = 8
_STATES = 1_000_000
_TIMEOUT = 600.0


@dataclass(frozen=True)
class _Reader:
    title: str
    module: str
    indexed: bool = True
    timers: bool = False


_BARE = _Reader("bare aiokafka, keeping nothing", "bare_scan")
_READERS = (
    _BARE,
    _Reader("Moorage", "restoring"),
    _Reader("Moorage, timers armed", "restoring", timers=True),
    _Reader("Moorage, states without an index", "restoring", indexed=False),
)


def run(arguments: Namespace) -> None:
    states = _STATES // 10 if arguments.quick else _STATES
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    about = describe(arguments.words)

    async def measure(bootstrap: str) -> None:
        runs: list[dict[str, Any]] = []
        async with topics_on(bootstrap) as topics:
            say(f"\nrestore: {states:,} states")
            filled = {indexed: await _filled(topics, states, indexed=indexed) for indexed in (True, False)}
            for number in range(rounds):
                for reader in _READERS:
                    await quiet(arguments.patience)
                    measured = await _measured(topics.bootstrap, filled[reader.indexed], states, reader)
                    say(
                        f"  {reader.title:<34} {measured['seconds']:6.2f} s  {measured['grown_kib'] / 1024:6.0f} MiB  "
                        f"stalled {measured['stalled']:4.0%}"
                    )
                    runs.append({"reader": reader.title, "states": states, "round": number} | measured)
        publish("restore", about, [_table(runs, states)], runs)

    with real_kafka() as bootstrap:
        asyncio.run(measure(bootstrap))


async def _filled(topics: Topics, states: int, *, indexed: bool) -> str:
    topic = await topics.create("state", _PARTITIONS, **{"cleanup.policy": "compact"})
    await asyncio.to_thread(_fill, topics.bootstrap, topic, remembered(states), indexed)
    return topic


def _fill(bootstrap: str, topic: str, states: Iterator[tuple[bytes, bytes, bytes]], indexed: bool) -> None:
    # Not aiokafka, which takes minutes for a million.
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 20})
    for key, value, index in states:
        headers: list[tuple[str, str | bytes | None]] = [(STATE_HEADER, index)] if indexed else []
        while True:
            try:
                producer.produce(topic, value, key, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
    left = producer.flush(_TIMEOUT)
    assert left == 0, f"{left} states could not be published"


async def _measured(bootstrap: str, topic: str, states: int, reader: _Reader) -> dict[str, Any]:
    task = Task(
        bootstrap=bootstrap,
        topic=topic,
        group="",
        partitions=_PARTITIONS,
        records=states,
        concurrency=0,
        settings={"timers": reader.timers},
    )
    command = [sys.executable, "-m", f"benchmarks.contestants.{reader.module}", json.dumps(asdict(task))]
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        async with started(command, Path(folder, "stderr")) as contestant:
            idle, used, waited, began = contestant.resident(), contestant.cpu(), stalled(), loop.time()
            contestant.tell("GO")
            await contestant.hear("HANDLED", _TIMEOUT)
            seconds = loop.time() - began
            return {
                "seconds": seconds,
                "cpu": contestant.cpu() - used,
                "grown_kib": contestant.resident() - idle,
                "stalled": (stalled() - waited) / seconds,
            }


def _table(runs: list[dict[str, Any]], states: int) -> Table:
    def typical(reader: _Reader, what: str) -> float:
        return float(median(each[what] for each in runs if each["reader"] == reader.title))

    rows = []
    for reader in _READERS:
        seconds, grown = typical(reader, "seconds"), typical(reader, "grown_kib")
        rows.append(
            [
                reader.title,
                f"{seconds:.2f}",
                f"{states / seconds:,.0f}",
                f"{seconds / typical(_BARE, 'seconds'):.2f}",
                f"{typical(reader, 'cpu') / states * 1e6:.1f}",
                f"{grown / 1024:,.0f}",
                f"{grown / states * 1024:,.0f}",
            ]
        )
    return Table(
        f"Restoring {states:,} states from {_PARTITIONS} partitions",
        ["", "seconds", "states/s", "× bare", "CPU µs each", "MiB grown", "bytes each"],
        rows,
        [
            "Seconds from connecting until everything is at hand; × is the multiple of the bare loop's time.",
            "Grown: resident memory above that of the same process before it connected.",
        ],
    )
