"""`kubernetes`: two hundred environments on a real API server by Moorage, beside a bare client that makes the same.

Nodes are simulated, so what is measured is the API server and whoever asks it. All have the same account and make the
same five objects for each environment, by so many workers at a time. Who comes first changes from round to round, and
shares are of the bare client's throughput in the same round.
"""

import asyncio
import json
import tempfile
from argparse import Namespace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cluster import Account, account_on
from benchmarks.kafka import real_kafka
from benchmarks.machine import describe
from benchmarks.report import publish, say
from benchmarks.served import served
from benchmarks.services import real
from benchmarks.shares import Run, came_and_went, in_turns, latencies, throughput
from benchmarks.topics import Topics, topics_on, unique
from tests.services import Kubernetes

_COUNT, _WORKERS = 200, 20
_TIMEOUT = 600.0
_TEMPLATES = """\
version: 1
templates:
  - name: web
    runtime: kubernetes
    image: registry.example.org/web:1
    limits: {cpu: 100m, memory: 64Mi}
    environment: {COLOUR: blue}
    ports: ["80"]
    ready: {tcp: 80}
"""
_BARE, _SERVICE = "bare kubernetes_asyncio", "Moorage, events to results"
_RUNTIME, _LIFTED = "Moorage's Kubernetes runtime", "the same without its rate limit"
_KINDS: dict[str, dict[str, Any]] = {
    _BARE: {"kind": "bare"},
    _RUNTIME: {"kind": "moorage"},
    _LIFTED: {"kind": "moorage", "requests_per_second": 1e6},
}
_TURNS = (_RUNTIME, _BARE, _LIFTED, _SERVICE)
"""Or the other way round."""


def run(arguments: Namespace) -> None:
    count = _COUNT // 5 if arguments.quick else _COUNT
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    about = describe(arguments.words)
    about["packages"] += f", kubernetes_asyncio {version('kubernetes_asyncio')}"

    async def measure(bootstrap: str, account: Account) -> None:
        async with topics_on(bootstrap) as topics:
            say(f"\nkubernetes: {count}, {_WORKERS} at a time")
            await _measured(account, _BARE, _WORKERS)

            async def measured(title: str) -> Run:
                if title == _SERVICE:
                    return await _measured_service(topics, account, count)
                return await _measured(account, title, count)

            runs = await in_turns(_TURNS, measured, rounds=rounds, count=count, patience=arguments.patience)
        title = f"{count} environments created and removed, {_WORKERS} at a time, {rounds} rounds"
        served_runs = [each for each in runs if each["title"] == _SERVICE]
        publish("kubernetes", about, [throughput(runs, [*_KINDS, _SERVICE], title), latencies(served_runs)], runs)

    with real_kafka() as bootstrap, real(Kubernetes.start) as cluster, tempfile.TemporaryDirectory() as folder:
        shown = json.loads(cluster.kubectl("version", "--output=json"))["serverVersion"]
        nodes = len(cluster.get("nodes")["items"])
        about["cluster"] = f"Kubernetes {shown['gitVersion']}, {nodes} nodes"
        with account_on(cluster, Path(folder)) as account:
            asyncio.run(measure(bootstrap, account))


async def _measured(account: Account, title: str, count: int) -> Run:
    settings = {"namespace": account.namespace, "kubeconfig": str(account.kubeconfig)}
    settings |= {"instance": unique("kubernetes"), "templates": _TEMPLATES} | _KINDS[title]
    with account.counting() as requests:
        measured = await came_and_went("pods", settings, count, _WORKERS, timeout=_TIMEOUT)
    return _checked(account, measured, requests)


async def _measured_service(topics: Topics, account: Account, count: int) -> Run:
    settings = {"k8s_namespace": account.namespace, "kubeconfig": str(account.kubeconfig)}
    settings |= {"instance": unique("kubernetes"), "templates": _TEMPLATES, "runtime": "kubernetes"}
    with account.counting() as requests:
        measured = await served(topics, settings, count, _WORKERS, timeout=_TIMEOUT)
    return _checked(account, measured, requests)


def _checked(account: Account, measured: Run, requests: list[int]) -> Run:
    """What was measured, with the requests for each environment, of which nothing may be left."""
    left = account.left()
    assert not left, left
    for number in requests:
        measured["requests"] = number / measured["environments"]
    return measured
