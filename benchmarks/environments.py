"""`environments`: a hundred containers created and removed by Moorage, beside a bare client that asks for the same.

All on one engine, by so many workers at a time, with the same configuration. The service reads its STARTs and ENDs from
Kafka and is watched at its outbound topic. Who comes first changes from round to round, and shares are of the bare
client's throughput in the same round.
"""

import asyncio
import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from docker.errors import APIError

from benchmarks.contestants.harness import Task
from benchmarks.engine import real_engine
from benchmarks.kafka import real_kafka
from benchmarks.machine import describe, quiet, stalled
from benchmarks.process import started
from benchmarks.report import Table, publish, say
from benchmarks.served import served
from benchmarks.topics import Topics, topics_on, unique
from tests.services import DockerEngine
from tests.services.docker_client import docker_client
from tests.support.containers import Containers

_COUNT, _WORKERS = 100, 20
_TIMEOUT = 600.0
_TEMPLATES = """\
version: 1
templates:
  - name: sleeper
    runtime: docker
    image: {image}
    command: [sleep, "3600"]
    limits: {{cpu: 500m, memory: 64Mi}}
    ports: ["80"]
"""
_BARE, _SERVICE = "bare aiodocker", "Moorage, events to results"
_RUNTIME = "Moorage's Docker runtime"
_KINDS = {_BARE: "bare", _RUNTIME: "moorage"}
_TURNS = (_RUNTIME, _BARE, _SERVICE)
"""Or the other way round: the bare client comes right before or after those that are compared with it."""


def run(arguments: Namespace) -> None:
    count = _COUNT // 5 if arguments.quick else _COUNT
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    about = describe(arguments.words)
    about["packages"] += f", aiodocker {version('aiodocker')}"

    async def measure(bootstrap: str, engine: DockerEngine) -> None:
        runs: list[dict[str, Any]] = []
        async with topics_on(bootstrap) as topics:
            say(f"\nenvironments: {count}, {_WORKERS} at a time")
            await _measured(engine, _KINDS[_BARE], _WORKERS)  # an engine's first containers are slow
            for number in range(rounds):
                for title in _TURNS if number % 2 == 0 else reversed(_TURNS):
                    await quiet(arguments.patience)
                    if title == _SERVICE:
                        measured = await _measured_service(topics, engine, count)
                    else:
                        measured = await _measured(engine, _KINDS[title], count)
                    say(
                        f"  {title:<30} {_seconds(measured, 'created'):6.2f} + {_seconds(measured, 'removed'):.2f} s  "
                        f"cpu {measured['cpu']:5.2f} s  stalled {measured['stalled']:4.0%}"
                    )
                    runs.append({"title": title, "count": count, "round": number} | measured)
        publish("environments", about, [_table(runs, count, rounds), _latencies(runs)], runs)

    with real_kafka() as bootstrap, real_engine() as engine:
        with docker_client(engine.url) as client:
            shown = client.info()
            about["engine"] = f"Docker {shown['ServerVersion']}, {shown['Driver']}, cgroup v{shown['CgroupVersion']}"
        asyncio.run(measure(bootstrap, engine))


async def _measured(engine: DockerEngine, kind: str, count: int) -> dict[str, Any]:
    with _instance(engine) as instance, tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        log = Path(folder, "log")
        settings = {"kind": kind, "instance": instance, "url": engine.url, "templates": _templates(engine)}
        task = Task("", "", "", 0, count, _WORKERS, log=str(log), settings=settings)
        command = [sys.executable, "-m", "benchmarks.contestants.containers", json.dumps(asdict(task))]
        loop = asyncio.get_running_loop()
        async with started(command, Path(folder, "stderr")) as contestant:
            used, waited, began = contestant.cpu(), stalled(), loop.time()
            contestant.tell("GO")
            await contestant.hear("HANDLED", _TIMEOUT)
            cpu, disturbed = contestant.cpu() - used, (stalled() - waited) / (loop.time() - began)
        phases: dict[str, Any] = json.loads(log.read_text())  # noqa: ASYNC240 - nothing else goes on
        return phases | {"cpu": cpu, "stalled": disturbed}


async def _measured_service(topics: Topics, engine: DockerEngine, count: int) -> dict[str, Any]:
    with _instance(engine) as instance:
        settings = {"instance": instance, "docker_host": engine.url, "templates": _templates(engine)}
        return await served(topics, settings, count, _WORKERS, timeout=_TIMEOUT)


def _templates(engine: DockerEngine) -> str:
    return _TEMPLATES.format(image=engine.image)


@contextmanager
def _instance(engine: DockerEngine) -> Iterator[str]:
    """The name of an installation, of whose containers nothing may be left."""
    instance = unique("environments")
    containers = Containers(engine.url, instance)
    try:
        yield instance
        left = containers.reservations()
        assert not left, f"{len(left)} containers were left"
    finally:
        try:
            containers.remove_all()
        except APIError as error:  # older engines lose count of a network's endpoints, and keep it until they restart
            say(f"  the engine keeps something of {instance}: {error.explanation}")


def _table(runs: list[dict[str, Any]], count: int, rounds: int) -> Table:
    def of(title: str) -> list[dict[str, Any]]:
        return [each for each in runs if each["title"] == title]

    def shares(title: str, *phases: str) -> float:
        """How much of the bare client's throughput it has, in the median of the rounds."""
        bare = {each["round"]: each for each in of(_BARE)}
        return median(_seconds(bare[each["round"]], *phases) / _seconds(each, *phases) for each in of(title))

    rows = []
    for title in (*_KINDS, _SERVICE):
        created, removed = (median(_seconds(each, phase) for each in of(title)) for phase in ("created", "removed"))
        both = median(_seconds(each, "created", "removed") for each in of(title))
        rows.append(
            [
                title,
                f"{created:.2f}",
                f"{removed:.2f}",
                f"{count / both:.1f}",
                f"{shares(title, 'created'):.2f}",
                f"{shares(title, 'removed'):.2f}",
                f"{shares(title, 'created', 'removed'):.2f}",
                f"{median(each['cpu'] for each in of(title)) / count * 1e3:.1f}",
                f"{median(each['stalled'] for each in of(title)):.0%}",
            ]
        )
    return Table(
        f"{count} environments created and removed, {_WORKERS} at a time, {rounds} rounds",
        ["", "creating, s", "removing, s", "both/s", "creating", "removing", "of bare", "CPU ms each", "stalled"],
        rows,
        [
            "Seconds are medians; shares of the bare client's throughput are medians of the rounds' own.",
            "CPU: of the client's process alone. Stalled: while it was measured, something waited for a processor.",
        ],
    )


def _latencies(runs: list[dict[str, Any]]) -> Table:
    of_service = [each for each in runs if each["title"] == _SERVICE]
    rows = []
    for phase, event in (("created", "START to provisioned"), ("removed", "END to released")):
        for alone in (False, True):
            seconds = [each for run in of_service for each in run[phase]["alone" if alone else "single"]]
            cuts = quantiles(seconds, n=100, method="inclusive")
            how = "one after another" if alone else "all at once"
            rows.append([f"{event}, {how}", f"{len(seconds)}", f"{cuts[49]:.2f}", f"{cuts[98]:.2f}"])
    return Table(
        "Seconds from publishing an event until its result was received",
        ["", "events", "p50", "p99"],
        rows,
        ["All at once: most of it is waiting for a worker, so it grows with their number."],
    )


def _seconds(run: dict[str, Any], *phases: str) -> float:
    return float(sum(run[phase]["seconds"] for phase in phases))
