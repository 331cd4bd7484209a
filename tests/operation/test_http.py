"""What operators' tools ask: is it alive, is it ready, and its metrics."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumer.handling.metering import Readings
from consumer.handling.ports import Environment, Status
from consumer.handling.usage import Usage
from consumer.ops.http import PortTaken, served
from consumer.transport.liveness import Liveness
from schemas.outbound import Access

GOOD = Liveness(
    poll_age=0.1,
    loop_lag=0.01,
    record_age=2.5,
    unstable_for=0.0,
    commit_age=0.0,
    stalled_for=0.0,
    partitions=8,
    restored=True,
    outstanding=3,
    parked=1,
    held=0,
    unacknowledged=2,
    completed=1234,
    outages=(),
    publishing_failure=None,
    alarms={},
)
DEAD = replace(GOOD, alarms={"poll_stalled": "for 99 s"})
PARTLY = replace(GOOD, outages=("docker",), alarms={"outage": "no answer from docker"})


def environment(name: str) -> Environment:
    access = Access(host="127.0.0.1")
    return Environment("docker", name, f"id-{name}", "k", "1841", "12", "h", Status.RUNNING, access)


@dataclass
class Shown:
    """What the server shows."""

    liveness: Liveness | None = None
    readings: Readings = field(default_factory=dict)

    async def get(self, path: str) -> tuple[int, str]:
        async with served("127.0.0.1", 0, lambda: self.liveness, lambda: self.readings) as port:
            return await asyncio.to_thread(_fetch, f"http://127.0.0.1:{port}{path}")

    async def metrics(self) -> Mapping[tuple[str, ...], float]:
        _, text = await self.get("/metrics")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def _fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own server
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("liveness", "alive", "ready"),
    [
        (None, (200, "ok\n"), (503, "not ok\n")),
        (GOOD, (200, "ok\n"), (200, "ok\n")),
        (DEAD, (503, "not ok\npoll_stalled: for 99 s\n"), (503, "not ok\npoll_stalled: for 99 s\n")),
        (PARTLY, (200, "ok\noutage: no answer from docker\n"), (200, "ok\noutage: no answer from docker\n")),
    ],
    ids=["not consuming yet", "good", "dead", "one runtime is away"],
)
async def test_health_is_a_status_and_a_line_for_each_alarm(
    liveness: Liveness | None, alive: tuple[int, str], ready: tuple[int, str]
) -> None:
    shown = Shown(liveness)
    assert await shown.get("/livez") == alive
    assert await shown.get("/readyz") == ready


async def test_metrics_tell_how_the_consumer_is_doing() -> None:
    metrics = await Shown(PARTLY).metrics()
    assert metrics["moorage_ready",] == 1
    assert metrics["moorage_record_age_seconds",] == 2.5
    assert metrics["moorage_records_total",] == 1234
    assert metrics["moorage_runtime_outage", "docker"] == 1
    assert metrics["moorage_alarm", "outage"] == 1


async def test_metrics_tell_what_environments_use_as_far_as_is_known() -> None:
    used = Usage(datetime.now(UTC), 12.5, 4096, sent_bytes=7)
    metrics = await Shown(GOOD, {"a": (environment("r-a"), used)}).metrics()
    told = {name: value for (name, *labels), value in metrics.items() if set(labels) == {"docker", "r-a"}}
    assert told == {
        "moorage_environment_memory_bytes": 4096,
        "moorage_environment_cpu_seconds_total": 12.5,
        "moorage_environment_network_sent_bytes_total": 7,
    }


async def test_before_it_consumes_there_are_metrics_of_nothing() -> None:
    assert await Shown().metrics() == {}


async def test_a_port_that_is_taken_is_told() -> None:
    async with served("127.0.0.1", 0, lambda: None, dict) as port:
        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port}: "):
            async with served("127.0.0.1", port, lambda: None, dict):
                pass
