"""What a cluster's metrics server tells of a pod's use. No I/O here."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from consumer.handling.usage import Usage
from consumer.provisioners.kubernetes.kinds import Kind
from consumer.provisioners.kubernetes.pods import CONTAINER

POD_METRICS = Kind("PodMetrics", "pods", "metrics.k8s.io", "v1beta1")
_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
_UNITS |= {unit: 1000.0**power for power, unit in enumerate(("k", "M", "G", "T"), start=1)}
_UNITS |= {unit: 1024.0**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1)}


def usage_of(read: Mapping[str, Any], memory_limit: int | None) -> Usage | None:
    """What it says of the environment's container: rates and no counters; None for a pod that has none yet."""
    used = [container["usage"] for container in read.get("containers") or () if container["name"] == CONTAINER]
    if not used:
        return None
    return Usage(
        at=datetime.fromisoformat(read["timestamp"]).astimezone(UTC),
        cpu_seconds=None,
        memory_bytes=round(sum(amount(each["memory"]) for each in used)),
        memory_limit_bytes=memory_limit,
        cores=sum(amount(each["cpu"]) for each in used),
    )


def amount(quantity: str) -> float:
    """What a quantity comes to: `12345678n` of processors, `1024Ki` of memory."""
    number = quantity.rstrip("numkKMGTi")
    return float(number) * _UNITS[quantity[len(number) :]]
