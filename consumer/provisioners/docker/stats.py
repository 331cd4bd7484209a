"""What an engine tells of a container's use, on either version of cgroups. No I/O here."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from consumer.handling.usage import Usage
from consumer.provisioners.docker.container import Container

_NEVER_READ = "0001-"
"""How the time of a reading begins that was not made: the container does not run any more."""


def usage_of(read: Mapping[str, Any], container: Container) -> Usage | None:
    """What `GET /containers/{id}/stats` says; None when the container did not run at that moment."""
    at = read.get("read") or _NEVER_READ
    memory = _part(read, "memory_stats")
    if at.startswith(_NEVER_READ) or "usage" not in memory:
        return None
    networks: Sequence[Mapping[str, Any]] = [*(read.get("networks") or {}).values()]
    return Usage(
        at=datetime.fromisoformat(at).astimezone(UTC),
        cpu_seconds=_part(read, "cpu_stats", "cpu_usage").get("total_usage", 0) / 1e9,
        memory_bytes=_resident(memory),
        memory_limit_bytes=memory.get("limit") or None,
        received_bytes=sum(each.get("rx_bytes", 0) for each in networks) if networks else None,
        sent_bytes=sum(each.get("tx_bytes", 0) for each in networks) if networks else None,
        read_bytes=_moved(read, "read"),
        written_bytes=_moved(read, "write"),
        processes=_part(read, "pids_stats").get("current"),
        restarts=container.restarts,
    )


def _resident(memory: Mapping[str, Any]) -> int:
    """Memory without the page cache that can be dropped at once: what the `docker stats` command shows too.

    With cgroups v1 it is `total_inactive_file`, with v2 `inactive_file`; Podman tells neither.
    """
    usage, details = int(memory["usage"]), memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0)) or 0
    return usage - cache if cache < usage else usage


def _moved(read: Mapping[str, Any], way: str) -> int | None:
    """Bytes read from or written to block devices. Sums of them are listed beside them, under other names."""
    entries = _part(read, "blkio_stats").get("io_service_bytes_recursive")
    if entries is None:
        return None
    return sum(int(each.get("value", 0)) for each in entries if str(each.get("op", "")).lower() == way)


def _part(read: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for name in path:
        read = read.get(name) or {}
    return read
