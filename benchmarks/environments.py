"""`environments`: a hundred containers created and removed by Moorage, beside a bare client that asks for the same.

All on one engine, by so many workers at a time, with the same configuration. The service reads its STARTs and ENDs from
Kafka and is watched at its outbound topic. Who comes first changes from round to round, and shares are of the bare
client's throughput in the same round.
"""

import asyncio
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from docker.errors import APIError

from benchmarks.kafka import real_kafka
from benchmarks.machine import describe
from benchmarks.report import publish, say
from benchmarks.served import served
from benchmarks.services import real
from benchmarks.shares import Run, came_and_went, in_turns, latencies, throughput
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
        async with topics_on(bootstrap) as topics:
            say(f"\nenvironments: {count}, {_WORKERS} at a time")
            await _measured(engine, _KINDS[_BARE], _WORKERS)  # an engine's first containers are slow

            async def measured(title: str) -> Run:
                if title == _SERVICE:
                    return await _measured_service(topics, engine, count)
                return await _measured(engine, _KINDS[title], count)

            runs = await in_turns(_TURNS, measured, rounds=rounds, count=count, patience=arguments.patience)
        title = f"{count} environments created and removed, {_WORKERS} at a time, {rounds} rounds"
        served_runs = [each for each in runs if each["title"] == _SERVICE]
        publish("environments", about, [throughput(runs, [*_KINDS, _SERVICE], title), latencies(served_runs)], runs)

    with real_kafka() as bootstrap, real(DockerEngine.start) as engine:
        with docker_client(engine.url) as client:
            shown = client.info()
            about["engine"] = f"Docker {shown['ServerVersion']}, {shown['Driver']}, cgroup v{shown['CgroupVersion']}"
        asyncio.run(measure(bootstrap, engine))


async def _measured(engine: DockerEngine, kind: str, count: int) -> Run:
    with _instance(engine) as instance:
        settings = {"kind": kind, "instance": instance, "url": engine.url, "templates": _templates(engine)}
        return await came_and_went("containers", settings, count, _WORKERS, timeout=_TIMEOUT)


async def _measured_service(topics: Topics, engine: DockerEngine, count: int) -> Run:
    with _instance(engine) as instance:
        settings = {"instance": instance, "docker_host": engine.url, "templates": _templates(engine)}
        settings["runtime"] = "docker"
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
