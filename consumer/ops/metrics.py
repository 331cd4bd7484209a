"""Metrics for Prometheus, made from snapshots when they are asked for: nothing is counted on the way of a record."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from consumer.handling.metering import Latest
from consumer.handling.usage import Usage


class Snapshot(Protocol):
    """How a consumer is doing; `consumer.transport.liveness.Liveness` is one."""

    @property
    def alive(self) -> bool: ...
    @property
    def ready(self) -> bool: ...
    @property
    def alarms(self) -> Mapping[str, str]: ...
    @property
    def outages(self) -> Iterable[str]: ...


_GAUGES = {
    "poll_age": ("poll_age_seconds", "Since the client was last asked for records."),
    "loop_lag": ("loop_lag_seconds", "How late the event loop was at worst, of the last ten seconds."),
    "record_age": ("record_age_seconds", "Since the oldest record that is not done was taken in."),
    "unstable_for": ("group_unstable_seconds", "Since the group began to divide its partitions and did not finish."),
    "commit_age": ("commit_age_seconds", "Since something became due to be committed and was not."),
    "stalled_for": ("intake_stalled_seconds", "Since nothing is taken in and nothing was finished."),
    "partitions": ("partitions", "Partitions owned."),
    "outstanding": ("outstanding", "Items admitted and not done."),
    "parked": ("parked", "Items that wait for another attempt."),
    "held": ("held", "Outcomes whose dead letters are beyond the budget."),
    "unacknowledged": ("unacknowledged", "Outcomes published and not acknowledged yet."),
}
_USED = {
    "cores": ("cpu_cores", "Processors kept busy lately, of a runtime that does not count processor time."),
    "memory_bytes": ("memory_bytes", "Memory in use, without page cache that can be dropped at once."),
    "memory_limit_bytes": ("memory_limit_bytes", "The most memory it may use."),
    "processes": ("processes", "Processes that run."),
}
_COUNTED = {
    "cpu_seconds": ("cpu_seconds", "Processor time used, over all processors."),
    "received_bytes": ("network_received_bytes", "Bytes received."),
    "sent_bytes": ("network_sent_bytes", "Bytes sent."),
    "read_bytes": ("disk_read_bytes", "Bytes read from disks."),
    "written_bytes": ("disk_written_bytes", "Bytes written to disks."),
    "restarts": ("restarts", "How often its runtime started it again."),
}


def exposition(snapshot: Callable[[], Snapshot | None], latest: Latest) -> bytes:
    """Everything there is to tell now, in Prometheus' text format (version 0.0.4)."""
    registry = CollectorRegistry()
    registry.register(_Consumer(snapshot()))
    registry.register(_Environments(latest))
    text: bytes = generate_latest(registry)
    return text


class _Consumer(Collector):
    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        shown = self._snapshot
        if shown is None:
            return
        yield GaugeMetricFamily("moorage_ready", "Whether records are taken in and handled.", float(shown.ready))
        for field, (name, about) in _GAUGES.items():
            yield GaugeMetricFamily(f"moorage_{name}", about, float(getattr(shown, field)))
        yield CounterMetricFamily("moorage_records", "Records done.", float(getattr(shown, "completed", 0)))
        outages = GaugeMetricFamily("moorage_runtime_outage", "Runtimes that do not answer.", labels=["runtime"])
        for runtime in shown.outages:
            outages.add_metric([runtime], 1.0)
        yield outages
        alarms = GaugeMetricFamily("moorage_alarm", "Alarms that are raised.", labels=["alarm"])
        for alarm in shown.alarms:
            alarms.add_metric([alarm], 1.0)
        yield alarms


class _Environments(Collector):
    """What environments use; each is told while it runs, so that the number of series follows what there is."""

    def __init__(self, latest: Latest) -> None:
        self._latest = latest

    def collect(self) -> Iterator[Metric]:
        readings = [(env.runtime, env.name, used) for env, used in self._latest().values()]
        for field, (name, about) in _USED.items():
            yield _filled(GaugeMetricFamily(f"moorage_environment_{name}", about, labels=_LABELS), field, readings)
        for field, (name, about) in _COUNTED.items():
            yield _filled(CounterMetricFamily(f"moorage_environment_{name}", about, labels=_LABELS), field, readings)


_LABELS = ["runtime", "environment"]


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, field: str, readings: Iterable[tuple[str, str, Usage]]
) -> Metric:
    for runtime, environment, used in readings:
        value = getattr(used, field)
        if value is not None:
            family.add_metric([runtime, environment], float(value))
    return family
