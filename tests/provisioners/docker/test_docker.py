"""The Docker runtime conforms, on each kind of engine, and what is its own: limits, names, containers that end."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiodocker.exceptions import DockerError
from aiodocker.volumes import DockerVolume

from consumer.catalog.environment import AccessHints, Limits, Port, Readiness
from consumer.catalog.identity import INSTANCE, KEY, MANAGED_BY, SPEC_HASH
from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.handling.ports import Progress, Status
from consumer.provisioners.docker import DOCKER, DockerOptions, DockerProvisioner
from tests.provisioners.conformance import SurvivalConformance
from tests.provisioners.docker.harness import SOON, DockerHarness, on_both, shell
from tests.provisioners.harness import WEB_PORT, ignore
from tests.services import DockerEngine

pytestmark = pytest.mark.docker


@on_both
class TestConformance(SurvivalConformance):
    """All of it."""


@on_both
class TestLimits:
    async def test_the_engine_enforces_what_the_spec_says(self, harness: DockerHarness) -> None:
        limits = Limits(cpu_millis=500, memory_bytes=64 * 1024 * 1024)
        made = await harness.provisioner_with(pids_limit=99).ensure(harness.spec(limits=limits), ignore)

        host = (await harness.inspect(made))["HostConfig"]
        assert host["NanoCpus"] == 500_000_000
        assert host["Memory"] == host["MemorySwap"] == 64 * 1024 * 1024
        assert host["PidsLimit"] == 99
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["Init"] is True
        if harness.dialect is DOCKER:  # what Podman shows here is made up; tools/engines looks at the file
            assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}
        assert not host["Privileged"]

    async def test_without_limits_the_engines_defaults_hold(self, harness: DockerHarness) -> None:
        made = await harness.provisioner().ensure(harness.spec(), ignore)

        host = (await harness.inspect(made))["HostConfig"]
        assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (0, 0, 512)

    async def test_storage_that_cannot_be_limited_is_left_out_and_said(self, harness: DockerHarness) -> None:
        if await takes_sizes(harness):
            pytest.skip("this engine may be able to")
        steps: list[Progress] = []

        made = await harness.provisioner().ensure(harness.spec(limits=Limits(storage_bytes=10**9)), steps.append)

        assert not (await harness.inspect(made))["HostConfig"].get("StorageOpt")
        assert "unlimited" in {step.stage for step in steps}
        assert made.notes == ("The storage limit of 1G is not enforced here.",)

    async def test_storage_that_must_be_limited_and_cannot_be_is_refused(self, harness: DockerHarness) -> None:
        if await takes_sizes(harness):
            pytest.skip("this engine may be able to")
        spec = harness.spec(limits=Limits(storage_bytes=10**9), must_enforce=True)

        with pytest.raises(Permanent, match="cannot limit storage") as error:
            await harness.provisioner().ensure(spec, ignore)

        assert error.value.code == "limit_not_enforceable"
        assert await harness.leftovers() == []

    async def test_a_driver_that_refuses_sizes_after_all_is_asked_once(
        self, harness: DockerHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("consumer.provisioners.docker.provisioner.supports_storage_limit", lambda _: True)
        provisioner = harness.provisioner()
        for reservation in ("r-1", "r-2"):
            spec = harness.spec(reservation, limits=Limits(storage_bytes=10**9))

            assert (await provisioner.ensure(spec, ignore)).status is Status.RUNNING

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"limits": Limits(memory_bytes=1000)}, "memory"),
            ({"working_dir": "relative"}, "working directory|Cwd"),
            ({"image": "Not A Name"}, "reference"),
            ({"command": ()}, "[Cc]ommand"),
            ({"name": "no/name"}, "name of a container"),
        ],
    )
    async def test_what_the_engine_will_never_take_is_permanent(
        self, harness: DockerHarness, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(Permanent, match=message) as error:
            await harness.provisioner().ensure(harness.spec(**changes), ignore)

        assert error.value.code == "invalid_spec"
        assert len(error.value.message) <= 240


async def test_more_cpus_than_the_machine_has_are_permanently_refused(harness: DockerHarness) -> None:
    with pytest.raises(Permanent, match="Range of CPUs") as error:
        await harness.provisioner().ensure(harness.spec(limits=Limits(cpu_millis=10_000_000)), ignore)

    assert error.value.code == "invalid_spec"


@on_both
class TestContainers:
    async def test_it_is_what_the_spec_says(self, harness: DockerHarness) -> None:
        spec = harness.spec(
            working_dir="/www", command=shell("pwd > /www/where; env > /www/env.txt; exec httpd -f -p 8080")
        )
        made = await harness.provisioner().ensure(spec, ignore)

        assert (await harness.variables(made))["PWD"] == "/www"
        shown = await harness.inspect(made)
        assert shown["Config"]["Hostname"] == spec.name
        assert shown["Config"]["Labels"].items() >= {MANAGED_BY: "moorage", INSTANCE: harness.instance}.items()
        assert shown["Config"]["Labels"].items() >= {KEY: spec.key, SPEC_HASH: spec.spec_hash}.items()

    async def test_ports_are_published_where_we_are_told(self, harness: DockerHarness) -> None:
        ports = (Port(WEB_PORT), Port(53, protocol="udp"), Port(22))
        spec = harness.spec(ports=ports, access=AccessHints(WEB_PORT, 22, "alice"))

        made = await harness.provisioner_with(public_host="gpu.example.org").ensure(spec, ignore)

        shown = (await harness.inspect(made))["NetworkSettings"]["Ports"]
        assert {name: binding[0]["HostIp"] for name, binding in shown.items()} == {
            "8080/tcp": "127.0.0.1",
            "53/udp": "127.0.0.1",
            "22/tcp": "127.0.0.1",
        }
        outside = {(port.port, port.protocol): port.host_port for port in made.access.ports}
        assert outside == {
            (WEB_PORT, "tcp"): int(shown["8080/tcp"][0]["HostPort"]),
            (53, "udp"): int(shown["53/udp"][0]["HostPort"]),
            (22, "tcp"): int(shown["22/tcp"][0]["HostPort"]),
        }
        assert made.access.host == "gpu.example.org"
        assert made.access.ssh == f"ssh -p {outside[22, 'tcp']} alice@gpu.example.org"

    async def test_a_wildcard_bind_shows_each_port_once(self, harness: DockerHarness) -> None:
        made = await harness.provisioner_with(bind_host="0.0.0.0").ensure(harness.spec(), ignore)  # noqa: S104

        assert len(made.access.ports) == 1
        assert made.access.host == "localhost"

    async def test_one_killed_by_hand_is_started_again_in_place(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec(command=shell("date >> /www/d; exec sleep 1000"))
        made = await provisioner.ensure(spec, ignore)
        await harness.docker.containers.container(made.name).kill()

        again = await provisioner.ensure(spec, ignore)

        assert (again.native_id, again.status) == (made.native_id, Status.RUNNING)

    async def test_one_paused_by_hand_goes_on(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)
        await harness.docker.containers.container(made.name).pause()

        again = await provisioner.ensure(spec, ignore)

        assert again == made
        await harness.variables(again)

    async def test_one_removed_by_hand_is_made_anew(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)
        await harness.docker.containers.container(made.name).delete(force=True)

        assert (await provisioner.ensure(spec, ignore)).native_id != made.native_id

    async def test_one_that_was_created_but_never_started_is_started(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)
        config = await harness.inspect(made)
        await provisioner.remove(spec.key)
        half_made = {"Image": spec.image, "Cmd": list(spec.command), "Labels": config["Config"]["Labels"]}
        await harness.docker.containers.create(half_made, name=spec.name)

        assert (await provisioner.ensure(spec, ignore)).status is Status.RUNNING

    async def test_anonymous_volumes_go_with_it(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)
        labels = (await harness.inspect(made))["Config"]["Labels"]
        await provisioner.remove(spec.key)
        config = {"Image": spec.image, "Cmd": ["sleep", "1000"], "Labels": labels, "Volumes": {"/data": {}}}
        container = await harness.docker.containers.create(config, name=spec.name)
        (mount,) = (await container.show())["Mounts"]

        await provisioner.remove(spec.key)

        with pytest.raises(DockerError, match="404"):
            await DockerVolume(harness.docker, mount["Name"]).show()  # type: ignore[no-untyped-call]

    async def test_a_program_may_end_in_its_own_way_before_it_is_killed(self, harness: DockerHarness) -> None:
        serve, ready = "httpd -p 8080 -h /www; while true; do sleep 0.1; done", Readiness(WEB_PORT)
        obliging = harness.spec("r-1", command=shell(f"trap 'exit 0' TERM; {serve}"), ready=ready)
        stubborn = harness.spec("r-2", command=shell(f"trap '' TERM; {serve}"), ready=ready)
        patient, impatient = harness.provisioner_with(stop_timeout=30), harness.provisioner_with(stop_timeout=1)
        for spec in (obliging, stubborn):
            await patient.ensure(spec, ignore)

        assert await _seconds(patient.remove(obliging.key)) < 30
        assert await _seconds(impatient.remove(stubborn.key)) >= 1

    async def test_ensure_waits_for_one_that_is_being_removed(
        self, harness: DockerHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)
        assert isinstance(provisioner, DockerProvisioner)
        look = provisioner._engine.containers
        looks = 0

        async def dying_at_first(*labels: str) -> Any:
            nonlocal looks
            looks += 1
            return [replace(each, state="removing") if looks == 1 else each for each in await look(*labels)]

        monkeypatch.setattr(provisioner._engine, "containers", dying_at_first)

        assert (await provisioner.ensure(spec, ignore)).native_id != made.native_id


@on_both
class TestStart:
    @pytest.mark.parametrize(
        ("command", "message"),
        [
            (("no-such-program",), "No such file"),
            (("/www",), "[Pp]ermission denied"),
            (shell("exit 0"), "exit code 0"),
            (
                shell("echo 'bad \x1b[31mthing\x07'; echo; echo 'second'; exit 3"),
                r"exit code 3\)\. .*bad thing \| second",
            ),
        ],
    )
    async def test_a_program_that_does_not_start_says_why_and_leaves_nothing(
        self, harness: DockerHarness, command: tuple[str, ...], message: str
    ) -> None:
        with pytest.raises(Permanent, match=message) as error:
            await harness.provisioner_with(settle=SOON).ensure(harness.spec(command=command), ignore)

        assert error.value.code == "exited_at_start"
        assert error.value.message.isprintable()
        assert await harness.leftovers() == []

    async def test_a_long_story_is_cut_from_the_front(self, harness: DockerHarness) -> None:
        script = "i=0; while [ $i -lt 500 ]; do echo line $i is quite a long line; i=$((i+1)); done; exit 1"

        with pytest.raises(Permanent, match="line 499") as error:
            await harness.provisioner_with(settle=SOON).ensure(harness.spec(command=shell(script)), ignore)

        assert len(error.value.message) <= 240

    async def test_a_port_in_use_is_worth_another_try_and_leaves_nothing(
        self, harness: DockerHarness, free_port: int
    ) -> None:
        provisioner = harness.provisioner()
        await provisioner.ensure(harness.spec("r-1", ports=(Port(WEB_PORT, host=free_port),)), ignore)
        second = harness.spec("r-2", ports=(Port(WEB_PORT, host=free_port),))

        with pytest.raises(Transient) as error:
            await provisioner.ensure(second, ignore)

        assert error.value.code == "port_taken"
        assert await provisioner.find(second.key) is None

    async def test_a_network_that_does_not_exist_is_named_as_the_reason(self, harness: DockerHarness) -> None:
        with pytest.raises(Permanent, match="network") as error:
            await harness.provisioner_with(network="no-such-network").ensure(harness.spec(), ignore)

        assert error.value.code == "invalid_spec"
        assert await harness.leftovers() == []


class TestOptions:
    @pytest.mark.parametrize("url", ["unix:///nonexistent", "tcp://127.0.0.1:1", "http://127.0.0.1:1"])
    async def test_an_engine_that_is_not_there_is_unavailable(self, url: str) -> None:
        provisioner = DockerProvisioner(DockerOptions("x", url=url))

        with pytest.raises(Unavailable):
            await provisioner.ping()
        await provisioner.close()

    async def test_without_an_address_the_usual_engine_is_found(
        self, docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
        provisioner = DockerProvisioner(DockerOptions("x"))

        await provisioner.ping()
        await provisioner.close()

    async def test_no_engine_anywhere_is_unavailable(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        monkeypatch.setattr("aiodocker.docker._sock_search_paths", [tmp_path / "docker.sock"])
        monkeypatch.setenv("HOME", str(tmp_path))
        provisioner = DockerProvisioner(DockerOptions("x"))

        with pytest.raises(Unavailable):
            await provisioner.ping()
        await provisioner.close()

    @pytest.mark.parametrize(
        "wrong", [{"instance": ""}, {"url": "/var/run/docker.sock"}, {"url": "ftp://x"}, {"concurrent_requests": 100}]
    )
    def test_options_that_cannot_work_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            DockerOptions(**{"instance": "x"} | wrong)


async def takes_sizes(harness: DockerHarness) -> bool:
    info = await harness.docker.system.info()
    return info["Driver"] in ("btrfs", "zfs") or ["Backing Filesystem", "xfs"] in info["DriverStatus"]


async def _seconds(awaitable: Any) -> float:
    clock = asyncio.get_running_loop().time
    began = clock()
    await awaitable
    return clock() - began
