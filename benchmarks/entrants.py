"""Who takes part in the contest, with the settings that suit each workload best."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from benchmarks.cache import PEERS, pinned, virtual_environment
from benchmarks.contestants.harness import Task
from benchmarks.java import parallel_consumer

Settings = Mapping[str, Mapping[str, Any]]

ANY = "*"
"""The workload name of settings that hold for all workloads without settings of their own."""


@dataclass(frozen=True, eq=False)
class Entrant:
    """One contestant. `prepare` returns the beginning of its command, and raises `cache.Missing` where it cannot run.

    `settings` are passed through to it, by workload.
    """

    name: str
    title: str
    prepare: Callable[[], list[str]]
    arguments: Callable[[Task], list[str]]
    settings: Settings = field(default_factory=dict)
    on_kafka: bool = True

    def settings_for(self, workload: str) -> dict[str, Any]:
        return dict(self.settings.get(workload, self.settings.get(ANY, {})))


def _as_json(task: Task) -> list[str]:
    return [json.dumps(asdict(task))]


def _as_words(task: Task) -> list[str]:
    words = (task.bootstrap, task.topic, task.group, task.records, task.concurrency, task.log)
    return [str(word) for word in (*words, task.settings["commit_ms"], task.settings["buffer"])]


def _ours(module: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-m", f"benchmarks.contestants.{module}"]


def _theirs(module: str, *, oldest: tuple[int, int]) -> Callable[[], list[str]]:
    return lambda: [str(virtual_environment(module, oldest=oldest)), "-m", f"benchmarks.contestants.{module}"]


def _jar_version() -> str:
    found = re.search(
        r"<version>([\d.]{5,})</version>\s*</dependency>", (PEERS / "parallel_consumer.pom.xml").read_text()
    )
    assert found is not None
    return found[1]


_AIOKAFKA = {ANY: {"fetch_max_wait_ms": 20}}
"""By default aiokafka waits half a second for partitions it has read to the end, before it reads on in the others."""

FLOOR = Entrant("floor", "asyncio in memory, no Kafka", _ours("floor"), _as_json, on_kafka=False)
MOORAGE = Entrant("moorage", f"Moorage {version('moorage')}", _ours("moorage"), _as_json)
SERIAL = Entrant("serial", "bare aiokafka, serial per partition", _ours("bare_serial"), _as_json, _AIOKAFKA)
GATHER = Entrant("gather", "bare aiokafka, gather per batch", _ours("bare_gather"), _as_json, _AIOKAFKA)
FASTSTREAM = Entrant(
    "faststream",
    f"FastStream {pinned('faststream', 'faststream')}, 8 workers",
    _theirs("faststream", oldest=(3, 11)),
    _as_json,
    {ANY: {"max_workers": 8, "fetch_max_wait_ms": 20}},
)
PYRALLEL = Entrant(
    "pyrallel",
    f"Pyrallel Consumer {pinned('pyrallel', 'pyrallel-consumer')}",
    _theirs("pyrallel", oldest=(3, 12)),
    _as_json,
    {
        # Its scheduling costs more the more it holds, so small polls are best where keys are many.
        ANY: {"max_in_flight": 5_000, "queue_max_messages": 5_000, "poll_batch_size": 100},
        "W1u": {"max_in_flight": 20_000, "queue_max_messages": 20_000, "poll_batch_size": 50},
        "W3": {"max_in_flight": 1_000, "queue_max_messages": 1_000, "poll_batch_size": 50},
    },
)
PARALLEL_CONSUMER = Entrant(
    "parallel-consumer",
    f"parallel-consumer {_jar_version()} (Java, cold)",
    parallel_consumer,
    _as_words,
    {ANY: {"commit_ms": 100, "buffer": 0}},
)

ENTRANTS = {each.name: each for each in (FLOOR, MOORAGE, SERIAL, GATHER, FASTSTREAM, PYRALLEL, PARALLEL_CONSUMER)}
