"""The services that other tests stand on do what those tests take for granted."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import OffsetAndMetadata
from docker.types import Ulimit

from tests.services import DockerEngine, KafkaBroker, PodmanEngine, Registry, free_port
from tests.services.docker_client import docker_client
from tests.services.rundir import RunDir, end_stale

ULIMITS = [Ulimit(name=name, soft=1024, hard=4096) for name in ("nofile", "nproc")]
"""Within what any machine grants; Podman would ask for more."""

PARTITION = TopicPartition("moorings", 0)


@asynccontextmanager
async def admin(broker: KafkaBroker) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def write(broker: KafkaBroker, value: bytes) -> int:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        sent = await producer.send_and_wait(PARTITION.topic, value, partition=PARTITION.partition)
        return int(sent.offset)
    finally:
        await producer.stop()


async def read_and_commit(broker: KafkaBroker, metadata: str) -> bytes:
    consumer = AIOKafkaConsumer(
        PARTITION.topic,
        bootstrap_servers=broker.bootstrap_servers,
        group_id="harbour",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        record = await consumer.getone()
        await consumer.commit({PARTITION: OffsetAndMetadata(record.offset + 1, metadata)})
        return bytes(record.value)
    finally:
        await consumer.stop()


async def committed(broker: KafkaBroker) -> dict[TopicPartition, OffsetAndMetadata]:
    async with admin(broker) as client:
        while True:  # a coordinator that is still loading its group looks like a group without commits
            if offsets := await client.list_consumer_group_offsets("harbour"):
                return dict(offsets)
            await asyncio.sleep(0.1)


async def test_records_and_commits_with_metadata_survive_kill_9_and_restart(
    start_kafka: Callable[..., KafkaBroker],
) -> None:
    broker = start_kafka()
    async with admin(broker) as client:
        await client.create_topics([NewTopic(PARTITION.topic, 1, 1)])
    await write(broker, b"first")
    assert await read_and_commit(broker, "done: 1-4,7") == b"first"

    broker.kill()
    broker.start_node()

    assert await committed(broker) == {PARTITION: OffsetAndMetadata(1, "done: 1-4,7")}
    assert await write(broker, b"second") == 1
    assert await read_and_commit(broker, "") == b"second"


async def test_three_nodes_acknowledge_writes_while_one_is_dead(start_kafka: Callable[..., KafkaBroker]) -> None:
    broker = start_kafka(nodes=3)
    async with admin(broker) as client:
        await client.create_topics([NewTopic(PARTITION.topic, 1, 3)])
    await write(broker, b"all three")

    broker.kill(2)
    assert await write(broker, b"two of three") == 1

    broker.start_node(2)
    assert await write(broker, b"three again") == 2


@pytest.mark.kafka
async def test_topics_are_not_created_by_accident(kafka: KafkaBroker) -> None:
    async with admin(kafka) as client:
        assert "no-such-topic" not in await client.list_topics()
        (described,) = await client.describe_topics(["no-such-topic"])
        assert described["error_code"] != 0
        assert "no-such-topic" not in await client.list_topics()


def page_served_by_a_container_of(engine: DockerEngine | PodmanEngine) -> bytes:
    with docker_client(engine.url) as client:
        command = ["httpd", "-f", "-p", "80", "-h", "/www"]
        container = client.containers.run(
            engine.image, command, detach=True, ports={"80/tcp": ("127.0.0.1", None)}, ulimits=ULIMITS
        )
        try:
            container.reload()
            return page(container.ports["80/tcp"][0]["HostPort"])
        finally:
            container.remove(force=True)


def page(port: str) -> bytes:
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as reply:
                return bytes(reply.read())
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing answers on port {port}")


@pytest.mark.docker
def test_the_test_image_serves_a_page_on_a_published_port(docker_engine: DockerEngine) -> None:
    assert page_served_by_a_container_of(docker_engine) == b"moorage\n"


@pytest.mark.docker
@pytest.mark.parametrize("command", ["sh -c id", "sleep 0", "cat /etc/passwd", "ls /www", "echo ahoy", "id", "env"])
def test_the_test_image_has_what_tests_run(docker_engine: DockerEngine, command: str) -> None:
    with docker_client(docker_engine.url) as client:
        client.containers.run(docker_engine.image, command, remove=True)
        assert not client.images.get(docker_engine.image).attrs["Config"]["Cmd"]


@pytest.mark.docker
@pytest.mark.skipif(os.getuid() != 0 or not sys.platform.startswith("linux"), reason="only root on Linux can start one")
def test_our_own_engine_runs_beside_another_and_leaves_nothing() -> None:
    engine = DockerEngine.start_own()
    assert engine.run_dir is not None
    try:
        assert page_served_by_a_container_of(engine) == b"moorage\n"
        bridges = bridges_of_the_engine_with_one_more(engine)
        assert all(bridge in network() for bridge in bridges)
    finally:
        engine.stop()

    assert engine.run_dir.processes() == []
    assert not engine.run_dir.path.exists()
    assert not any(bridge in network() for bridge in bridges)


@pytest.mark.podman
@pytest.mark.skipif(os.getuid() != 0 or not sys.platform.startswith("linux"), reason="only root on Linux can start one")
@pytest.mark.parametrize("rootless", [False, True])
@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_our_own_podman_leaves_nothing(rootless: bool, ending: str) -> None:
    podman = PodmanEngine.start_own(rootless=rootless)
    assert podman.run_dir is not None
    try:
        assert page_served_by_a_container_of(podman) == b"moorage\n"
        with docker_client(podman.url) as client:
            quay = None if rootless else client.networks.create("quay").name
            container = client.containers.run(
                podman.image, ["sleep", "600"], detach=True, network=quay, ulimits=ULIMITS, ports={"80/tcp": None}
            )
        assert bool(cgroups(container.id)) is not rootless
        ours = marks_of(container.id)
        assert bool(ours) is not rootless
    finally:
        podman.stop() if ending == "stopped" else podman.run_dir.end()

    assert podman.run_dir.processes() == []
    assert not podman.run_dir.path.exists()
    assert str(podman.run_dir.path) not in Path("/proc/self/mounts").read_text()
    assert not cgroups(container.id)
    assert not [mark for mark in [*ours, podman.run_dir.path.name[-8:]] if mark in network()]


def cgroups(container: str) -> list[Path]:
    return [*Path("/sys/fs/cgroup").glob(f"**/*{container}*")]


def marks_of(container: str) -> set[str]:
    """By which the filter rules of a container are known: its id, and the chains that rules with its id lead to."""
    rules = [line for line in network().splitlines() if container in line]
    return (
        {container} | {word for line in rules for word in line.split() if re.fullmatch(r"CNI-(DN-)?[0-9a-f]+", word)}
        if rules
        else set()
    )


def bridges_of_the_engine_with_one_more(engine: DockerEngine) -> list[str]:
    """The names of its default bridge and of that of a new network, in which a container runs."""
    assert engine.run_dir is not None
    claimed = json.loads((engine.run_dir.path / "host-network.json").read_text())
    with docker_client(engine.url) as client:
        quay = client.networks.create("quay")
        client.containers.run(engine.image, ["sleep", "600"], detach=True, network="quay")
        return [claimed["bridge"], f"br-{quay.id[:12]}"]


def network() -> str:
    """The links and filter rules of this machine, as text: others change them too while tests run."""
    links = subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True).stdout
    tables = (
        subprocess.run(["iptables", "-w", "-t", t, "-S"], capture_output=True, text=True) for t in ("filter", "nat")
    )
    return links + "".join(table.stdout for table in tables)


@pytest.mark.docker
def test_images_can_be_pushed_to_the_registry_and_pulled_again(docker_engine: DockerEngine, registry: Registry) -> None:
    name = f"{registry.address}/harbour/busybox"
    with docker_client(docker_engine.url) as client:
        image = client.images.get(docker_engine.image)
        try:
            image.tag(name, "1")
            client.images.push(name, "1")
            client.images.remove(f"{name}:1")
            assert client.images.pull(name, "1").id == image.id
        finally:
            client.images.remove(f"{name}:1")


@pytest.fixture
def left_behind() -> Iterator[RunDir]:
    """A registry whose owner was killed and could not stop it."""
    owner = (
        "from tests.services import Registry; import os; print(Registry.start().run_dir.path, flush=True); os._exit(9)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MOORAGE_TEST_REGISTRY"}
    said = subprocess.run([sys.executable, "-c", owner], capture_output=True, text=True, env=environment)
    run_dir = RunDir(Path(said.stdout.strip()))
    yield run_dir
    run_dir.end()


def test_what_a_killed_run_left_is_ended_and_nothing_else(registry: Registry, left_behind: RunDir) -> None:
    assert left_behind.stale
    (process,) = left_behind.processes()

    end_stale()

    assert not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE
    assert not left_behind.path.exists()
    with urllib.request.urlopen(f"http://{registry.address}/v2/", timeout=30) as reply:
        assert reply.status == 200


def test_free_ports_are_not_those_of_outgoing_connections() -> None:
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not ephemeral.exists():
        pytest.skip("this system does not tell which ports those are")
    first, last = map(int, ephemeral.read_text().split())
    assert not first <= free_port() <= last
