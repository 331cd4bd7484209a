"""What the engine tells of a container's use, beside what the container really does."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from consumer.catalog.environment import Limits
from consumer.handling.usage import Usage
from consumer.provisioners.docker.container import Container
from consumer.provisioners.docker.stats import usage_of
from tests.provisioners.docker.harness import DockerHarness, on_both, shell
from tests.provisioners.harness import ignore

MEBIBYTE = 1024 * 1024
CONTAINER = Container("c0ffee", "r-alice-gpu-01-0123456789", {}, "running", restarts=2)
READ: dict[str, Any] = {
    "read": "2026-03-02T08:00:01.123456789Z",
    "pids_stats": {"current": 3},
    "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}, "online_cpus": 2},
    "memory_stats": {"usage": 100, "limit": 1000, "stats": {"inactive_file": 7, "total_inactive_file": 40}},
    "networks": {"eth0": {"rx_bytes": 5, "tx_bytes": 6}, "eth1": {"rx_bytes": 50, "tx_bytes": 60}},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"major": 8, "minor": 0, "op": "Read", "value": 10},
            {"major": 8, "minor": 16, "op": "Read", "value": 1},
            {"major": 8, "minor": 0, "op": "Write", "value": 20},
            {"major": 8, "minor": 0, "op": "Total", "value": 30},
        ]
    },
}


def test_a_reading_with_cgroups_v1() -> None:
    assert usage_of(READ, CONTAINER) == Usage(
        at=datetime(2026, 3, 2, 8, 0, 1, 123456, UTC),
        cpu_seconds=2.5,
        memory_bytes=60,
        memory_limit_bytes=1000,
        received_bytes=55,
        sent_bytes=66,
        read_bytes=11,
        written_bytes=20,
        processes=3,
        restarts=2,
    )


def test_a_reading_with_cgroups_v2() -> None:
    blkio = {"io_service_bytes_recursive": [{"op": "read", "value": 1}, {"op": "write", "value": 2}]}
    read = READ | {"memory_stats": {"usage": 100, "stats": {"inactive_file": 30}}, "blkio_stats": blkio}

    used = usage_of(read, CONTAINER)

    assert used is not None
    assert (used.memory_bytes, used.memory_limit_bytes) == (70, None)
    assert (used.read_bytes, used.written_bytes) == (1, 2)


@pytest.mark.parametrize(
    "read",
    [
        {},
        {"read": "0001-01-01T00:00:00Z", "memory_stats": {}, "cpu_stats": {"cpu_usage": {"total_usage": 0}}},
        {"read": "2026-03-02T08:00:01Z", "memory_stats": None, "networks": None},
    ],
)
def test_what_does_not_run_uses_nothing_that_could_be_told(read: dict[str, Any]) -> None:
    assert usage_of(read, CONTAINER) is None


def test_what_an_engine_leaves_out_is_unknown() -> None:
    bare = {"read": "2026-03-02T08:00:01Z", "memory_stats": {"usage": 10}, "blkio_stats": None, "networks": {}}

    used = usage_of(bare, CONTAINER)

    assert used == Usage(datetime(2026, 3, 2, 8, 0, 1, tzinfo=UTC), 0.0, 10, restarts=2)


@pytest.mark.docker
class TestReal:
    @on_both
    async def test_a_busy_program_keeps_as_many_processors_busy_as_its_limit_allows(
        self, harness: DockerHarness
    ) -> None:
        limits = Limits(cpu_millis=500, memory_bytes=64 * MEBIBYTE)
        spec = harness.spec(command=shell("while :; do :; done"), limits=limits)
        provisioner = harness.provisioner()
        await provisioner.ensure(spec, ignore)

        first = await provisioner.usage(spec.key)
        await asyncio.sleep(3.0)
        second = await provisioner.usage(spec.key)

        assert first is not None
        assert second is not None
        cores = second.cores_since(first)
        assert cores is not None
        assert 0.02 < cores < 0.75  # a busy machine gives it less than its limit, never much more
        assert second.memory_limit_bytes == 64 * MEBIBYTE
        assert second.processes == 2  # the program, and the init that reaps for it
        assert second.restarts == 0

    async def test_page_cache_does_not_count_as_memory(self, harness: DockerHarness) -> None:
        fill = shell("dd if=/dev/zero of=/tmp/file bs=1M count=24 2>/dev/null; exec sleep 60")
        spec = harness.spec(command=fill, limits=Limits(memory_bytes=64 * MEBIBYTE))
        provisioner = harness.provisioner()
        made = await provisioner.ensure(spec, ignore)
        container = harness.docker.containers.container(made.native_id)

        async for read in container.stats(stream=True):  # one a second
            if read["memory_stats"]["usage"] >= 24 * MEBIBYTE:
                break
        used = await provisioner.usage(spec.key)

        assert used is not None
        assert used.memory_bytes < 12 * MEBIBYTE
