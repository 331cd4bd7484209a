"""A program tries to get out of its environment, or to its neighbours; in an ordinary container it would."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from consumer.catalog.identity import INSTANCE
from consumer.catalog.security import CAPABILITIES, Security
from consumer.provisioners.docker.networks import METADATA_ADDRESSES
from tests.provisioners.docker.cage import attempting, ending_of, hardened, loose, ordinary
from tests.provisioners.docker.harness import DockerHarness, shell
from tests.provisioners.harness import WEB_PORT, ignore
from tests.services import DockerEngine
from tests.services.host_network import one_more_address

pytestmark = pytest.mark.docker

_ELSEWHERE = "169.254.170.2"
"""A metadata address that this machine does not need itself."""


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param("touch /f && chown 1000 /f", id="give files away"),
        pytest.param("mknod /disk b 8 0", id="make a device"),
        pytest.param("ping -c 1 -W 1 127.0.0.1", id="open a raw socket"),
        pytest.param("mkdir /m && mount -t tmpfs t /m", id="mount"),
        pytest.param("unshare -U true", id="begin a user namespace, where it would be root"),
        pytest.param("unshare -n true", id="begin a network namespace"),
        pytest.param("chroot / true", id="change the root folder"),
        pytest.param("hostname other", id="take another name"),
        pytest.param("ip address add 10.9.9.9/32 dev lo", id="take another address"),
        pytest.param("ip address del 127.0.0.1/8 dev lo", id="give an address back"),
        pytest.param("f=/proc/sys/net/ipv4/ip_default_ttl; echo 64 > $f", id="set a kernel parameter"),
        pytest.param("grep -q keyring /proc/keys", id="read the kernel's keys"),
        pytest.param("ls /sys/firmware | grep -q .", id="look at the machine's firmware"),
    ],
)
async def test_a_program_cannot(harness: DockerHarness, attempt: str) -> None:
    free, caged = await asyncio.gather(loose(harness, attempt), hardened(harness, attempt))

    assert free.code == 0, f"the attempt proves nothing: {free.said}"
    assert caged.code != 0


@pytest.mark.parametrize(
    "given_back",
    [
        pytest.param(("CHOWN", "touch /f && chown 1000 /f"), id="CHOWN"),
        pytest.param(("SYS_CHROOT", "chroot / true"), id="SYS_CHROOT"),
        pytest.param(("DAC_OVERRIDE", "touch /f && chmod 0 /f && mkdir -m 0 /d && touch /d/f"), id="DAC_OVERRIDE"),
    ],
)
async def test_a_capability_that_is_given_back_is_had_alone(
    harness: DockerHarness, given_back: tuple[str, str]
) -> None:
    name, attempt = given_back

    without, having = await asyncio.gather(
        hardened(harness, attempt),
        hardened(harness, attempt, "r-2", security=Security(capabilities=(name,))),
    )

    assert (without.code != 0, having.code) == (True, 0)


async def test_nothing_that_a_template_may_give_back_opens_the_container(harness: DockerHarness) -> None:
    everything = Security(capabilities=tuple(CAPABILITIES))
    attempts = "mknod /disk b 8 0 || ping -c 1 -W 1 127.0.0.1 || mkdir /m && mount -t tmpfs t /m || unshare -U true"

    assert (await hardened(harness, attempts, security=everything)).code != 0


async def test_seccomp_is_on(harness: DockerHarness) -> None:
    free, caged = await asyncio.gather(*(how(harness, "grep Seccomp: /proc/self/status") for how in (loose, hardened)))

    assert (free.said.split()[-1], caged.said.split()[-1]) == ("0", "2")


@pytest.fixture
async def image_with_a_trap(harness: DockerHarness) -> AsyncIterator[str]:
    """An image with a program that everybody runs as root."""
    name = f"moorage/escape:{harness.instance}"
    container = await harness.docker.containers.create(
        {
            "Image": harness.image,
            "Cmd": list(shell("cp /bin/busybox /bin/busybox-rise && chmod 4755 /bin/busybox-rise")),
        }
    )
    try:
        await container.start()
        await container.wait()
        await container.commit(repository=name.split(":")[0], tag=name.split(":")[1])
    finally:
        await container.delete(force=True)
    yield name
    await harness.docker.images.delete(name, force=True)


class TestUser:
    async def test_a_set_user_id_program_does_not_make_anybody_root(
        self, harness: DockerHarness, image_with_a_trap: str
    ) -> None:
        risen = "! /bin/busybox-rise su -c true < /dev/null 2>&1 | grep -q 'must be suid'"

        free = await loose(harness, risen, image=image_with_a_trap, User="65534")
        caged = await hardened(harness, risen, image=image_with_a_trap, security=Security(user="65534"))
        allowed = await hardened(
            harness,
            risen,
            "r-2",
            image=image_with_a_trap,
            security=Security(user="65534", new_privileges=True),
        )

        assert (free.code, caged.code, allowed.code) == (0, 1, 0)

    async def test_the_templates_user_is_who_runs(self, harness: DockerHarness) -> None:
        ended = await hardened(harness, "id -u; id -g", security=Security(user="1234:567"))

        assert ended.said.split() == ["1234", "567"]


class TestFiles:
    async def test_a_read_only_container_writes_to_its_tmpfs_alone(self, harness: DockerHarness) -> None:
        security = Security(read_only=True, tmpfs={"/tmp": 2**20})
        attempts = (
            "for f in /f /etc/passwd /bin/sh /root/f /www/f; do echo x >> $f && echo written $f; done;"
            "echo x > /tmp/f && echo to tmp; cp /bin/busybox /tmp/b; chmod +x /tmp/b; /tmp/b true && echo executed;"
            "dd if=/dev/zero of=/tmp/f bs=64k count=100 2>/dev/null && echo endless"
        )

        ended = await hardened(harness, f"({attempts}) 2>/dev/null", security=security)

        assert ended.said.splitlines() == ["to tmp"]


class TestExhaustion:
    async def test_a_fork_bomb_stays_within_its_bound(self, harness: DockerHarness) -> None:
        bomb = "i=0; while [ $i -lt 100 ]; do sleep 100 & i=$((i+1)); done; echo all"

        free, caged = await asyncio.gather(loose(harness, bomb), hardened(harness, bomb, security=Security(pids=32)))

        assert "all" in free.said
        assert caged.code != 0
        assert "all" not in caged.said
        (container,) = await harness.docker.containers.list(filters={"label": [f"{INSTANCE}={harness.instance}"]})
        assert len((await container.top())["Processes"]) <= 32  # type: ignore[no-untyped-call]

    async def test_a_program_opens_no_more_files_than_it_may(self, harness: DockerHarness) -> None:
        many = 'i=3; while [ $i -lt 200 ]; do eval "exec $i< /dev/null"; i=$((i+1)); done'
        raised = "ulimit -n 65 2>/dev/null"

        free = await loose(harness, many)
        caged = await hardened(harness, f"{raised} && exit 0; {many}", security=Security(open_files=64))

        assert free.code == 0
        assert caged.code != 0
        assert "Too many open files" in caged.said

    async def test_nobody_is_left_a_core(self, harness: DockerHarness) -> None:
        assert (await hardened(harness, "ulimit -c; ulimit -Hc")).said.split() == ["0", "0"]

    async def test_a_flood_of_output_does_not_fill_the_disk(self, harness: DockerHarness) -> None:
        spec = harness.spec(command=attempting("yes 0123456789012345678901234567890123456789 | head -c 8000000"))
        made = await harness.provisioner_with(log_megabytes=1).ensure(spec, ignore)
        container = harness.docker.containers.container(made.native_id)

        await ending_of(container)

        kept = await container.log(stdout=True, stderr=True)
        assert 100_000 < sum(map(len, kept)) < 2_000_000


class TestHost:
    async def test_processes_of_the_host_are_not_to_be_seen(self, harness: DockerHarness) -> None:
        made = await harness.provisioner().ensure(harness.spec(), ignore)
        outside = (await harness.inspect(made))["State"]["Pid"]
        look = f"test -d /proc/{outside}"

        free = await loose(harness, look, HostConfig={"PidMode": "host"})
        caged = await hardened(harness, look, "r-2")

        assert (free.code, caged.code) == (0, 1)

    async def test_nothing_of_the_host_is_shared(self, harness: DockerHarness) -> None:
        made = await harness.provisioner().ensure(harness.spec(), ignore)

        shown = await harness.inspect(made)
        host = shown["HostConfig"]
        assert not host["Privileged"]
        assert not host["PublishAllPorts"]
        assert not shown["Mounts"]
        assert not any(host.get(key) for key in ("Binds", "Mounts", "Devices", "DeviceRequests", "VolumesFrom"))
        assert not any(host[key] for key in ("PidMode", "UTSMode", "UsernsMode", "CapAdd", "ExtraHosts"))
        assert (host["IpcMode"], host["CgroupnsMode"], host["CapDrop"]) == ("private", "private", ["ALL"])
        assert host["MaskedPaths"]
        assert host["ReadonlyPaths"]

    async def test_it_does_not_see_where_on_the_host_it_is(self, harness: DockerHarness) -> None:
        made = await harness.provisioner().ensure(harness.spec(command=attempting("cat /proc/self/cgroup")), ignore)

        ended = await ending_of(harness.docker.containers.container(made.native_id))

        assert made.native_id[:12] not in ended.said
        assert ":/" in ended.said


class TestNeighbours:
    @pytest.fixture(autouse=True)
    def _filters(self, docker_engine: DockerEngine) -> None:
        if not docker_engine.filters:
            pytest.skip("this engine may not use iptables, because another one on this machine does")

    @pytest.mark.parametrize("network", ["isolated", "private"])
    async def test_ports_of_other_environments_are_out_of_reach(self, harness: DockerHarness, network: str) -> None:
        provisioner = harness.provisioner_with(network=network)
        neighbour = await provisioner.ensure(harness.spec("r-1"), ignore)
        await harness.variables(neighbour)  # it serves, and is reached from outside
        address = _address(await harness.inspect(neighbour))

        made = await provisioner.ensure(harness.spec("r-2", command=_reaching(address, WEB_PORT)), ignore)
        caged = await ending_of(harness.docker.containers.container(made.native_id))

        assert "moorage" not in caged.said

    async def test_in_an_ordinary_network_they_would_be_reached(self, harness: DockerHarness) -> None:
        network = await harness.docker.networks.create({"Name": f"{harness.instance}-open"})
        joined = {"NetworkMode": f"{harness.instance}-open"}
        try:
            async with AsyncExitStack() as stack:
                serving = {"Cmd": list(harness.command), "HostConfig": joined}
                neighbour = await stack.enter_async_context(ordinary(harness, serving))
                ask = _reaching(_address(await neighbour.show()), WEB_PORT, tries=20)  # it may not listen yet
                calling = {"Cmd": list(ask), "HostConfig": joined}
                caller = await stack.enter_async_context(ordinary(harness, calling))
                free = await ending_of(caller)
        finally:
            await network.delete()

        assert "moorage" in free.said


class TestMetadata:
    @pytest.fixture
    async def service(self, docker_engine: DockerEngine) -> AsyncIterator[int]:
        """Something that answers `secret` on a metadata address of the engine's machine; yields its port."""
        if not docker_engine.url.startswith("unix://"):
            pytest.skip("the engine is not on this machine")
        with one_more_address(_ELSEWHERE):
            async with await asyncio.start_server(_tell_secret, _ELSEWHERE, 0) as server:
                yield server.sockets[0].getsockname()[1]

    @pytest.mark.parametrize("network", ["isolated", "private"])
    async def test_a_metadata_service_is_out_of_reach(self, harness: DockerHarness, service: int, network: str) -> None:
        ask = _reaching(_ELSEWHERE, service)
        async with ordinary(harness, {"Cmd": list(ask)}) as container:
            free = await ending_of(container)
        made = await harness.provisioner_with(network=network).ensure(harness.spec("r-1", command=ask), ignore)
        caged = await ending_of(harness.docker.containers.container(made.native_id))

        assert "secret" in free.said
        assert "secret" not in caged.said
        reader, writer = await asyncio.open_connection(_ELSEWHERE, service)
        assert await reader.read() == b"secret\n", "the host itself must still reach it"
        writer.close()
        await writer.wait_closed()

    async def test_it_can_be_let_through(self, harness: DockerHarness, service: int) -> None:
        provisioner = harness.provisioner_with(block_metadata=False)
        made = await provisioner.ensure(harness.spec(command=_reaching(_ELSEWHERE, service)), ignore)

        assert "secret" in (await ending_of(harness.docker.containers.container(made.native_id))).said

    async def test_what_is_sent_to_such_an_address_stays_in_the_environment(self, harness: DockerHarness) -> None:
        asking = " ".join(f"nc -w 10 {each} 8080 < /request;" for each in METADATA_ADDRESSES)
        script = f"httpd -p 8080 -h /www; printf 'GET / HTTP/1.0\\r\\n\\r\\n' > /request; {asking}"

        ended = await hardened(harness, script)

        assert ended.said.count("moorage") == len(METADATA_ADDRESSES)


def _reaching(address: str, port: int, *, tries: int = 1) -> tuple[str, ...]:
    """A command that asks for a page there and shows what comes."""
    ask = f"nc -w 8 {address} {port} < /tmp/request"
    return attempting(
        f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' > /tmp/request; for _ in $(seq {tries}); do {ask} && break; sleep 1; done"
    )


def _address(shown: dict[str, Any]) -> str:
    (network,) = shown["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


async def _tell_secret(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"secret\n")
    await writer.drain()
    writer.close()
