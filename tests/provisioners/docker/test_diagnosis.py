"""What an operator is told of an engine: why it does not answer, what it does not enforce, what will be short."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from consumer.catalog.environment import Port
from consumer.catalog.needs import Needs
from consumer.catalog.parameters import Parameter
from consumer.catalog.ports import PortRange
from consumer.handling.ports import Finding, Level
from consumer.provisioners.docker import DOCKER, DockerOptions, DockerProvisioner
from consumer.provisioners.docker.diagnosis import _knock, _limits, _range, _reach
from tests.provisioners.docker.harness import DockerHarness, on_both
from tests.provisioners.harness import ignore
from tests.services import free_port

EVERYTHING = Needs(limits=frozenset({Parameter.CPU_LIMIT, Parameter.MEMORY_LIMIT, Parameter.STORAGE_LIMIT}))
GOOD = {
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "xfs"]],
    "SecurityOptions": ["name=seccomp,profile=default"],
}


def _named(**changes: object) -> list[Finding]:
    return [finding for finding in _limits(GOOD | changes, EVERYTHING) if finding.subject == "isolation"]


@pytest.mark.parametrize("options", [[], ["name=seccomp,profile=unconfined"]])
def test_an_engine_that_filters_no_system_calls_is_an_error(options: list[str]) -> None:
    (finding,) = _named(SecurityOptions=options)
    assert finding.level is Level.ERROR
    assert "seccomp" in finding.message


def test_a_machine_that_lets_neighbours_talk_is_an_error() -> None:
    (finding,) = _named(BridgeNfIptables=False)
    assert finding.level is Level.ERROR
    assert finding.remedy is not None
    assert "br_netfilter" in finding.remedy


async def only(url: str) -> Finding:
    provisioner = DockerProvisioner(DockerOptions("test", url))
    (finding,) = await provisioner.diagnose(Needs())
    await provisioner.close()
    return finding


async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    finding = await only(f"unix://{tmp_path}/docker.sock")
    assert finding.level is Level.ERROR
    assert finding.message == f"There is no socket at {tmp_path}/docker.sock."
    assert finding.remedy == "Install and start the engine, or say where it listens."


async def test_a_socket_at_which_nobody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "docker.sock"))
    finding = await only(f"unix://{tmp_path}/docker.sock")
    assert finding.message == f"Nobody listens at the socket {tmp_path}/docker.sock."


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_a_socket_that_may_not_be_used() -> None:
    path = Path(f"/tmp/moorage-test-{os.getpid()}.sock")
    try:
        with socket.socket(socket.AF_UNIX) as private:
            private.bind(str(path))
            private.listen()
            path.chmod(0o600)
            if (child := os.fork()) == 0:
                os.setuid(65534)
                os._exit(_knock(str(path)) or 0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EACCES
    finally:
        path.unlink()


async def test_permission_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.provisioners.docker.diagnosis._knock", lambda path: errno.EACCES)
    finding = await only(f"unix://{tmp_path}/docker.sock")
    assert finding.message == f"This user may not use the socket {tmp_path}/docker.sock."
    assert "usermod --append --groups docker USER" in (finding.remedy or "")


async def test_an_address_that_nobody_answers() -> None:
    finding = await only(f"tcp://127.0.0.1:{free_port()}")
    assert finding.level is Level.ERROR
    assert "firewall" in (finding.remedy or "")


@pytest.mark.parametrize(
    ("url", "bind_host", "told"),
    [
        ("tcp://gpu-1.lab:2376", "127.0.0.1", True),
        ("ssh://moorage@gpu-1.lab", "localhost", True),
        ("tcp://gpu-1.lab:2376", "0.0.0.0", False),  # noqa: S104
        ("tcp://127.0.0.1:2375", "127.0.0.1", False),
        ("unix:///run/docker.sock", "127.0.0.1", False),
    ],
)
def test_ports_that_nobody_reaches_are_told(url: str, bind_host: str, told: bool) -> None:
    found = list(_reach(url, DockerOptions("lab", url=url, bind_host=bind_host)))
    assert [each.level for each in found] == [Level.WARNING] * told


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({}, []),
        ({"MemoryLimit": False}, ["does not enforce limits on memory"]),
        ({"SwapLimit": False}, ["does not enforce limits on swap"]),
        ({"CpuCfsQuota": False}, ["does not enforce limits on CPU"]),
        ({"PidsLimit": False}, ["does not bound the number of processes"]),
        ({"DriverStatus": [["Backing Filesystem", "extfs"]]}, ["cannot bound the storage"]),
        ({"SecurityOptions": ["name=apparmor"]}, ["filters no system calls"]),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"], "CgroupVersion": "1"}, ["rootless engine"]),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"], "CgroupVersion": "2"}, []),
        ({"SecurityOptions": None, "PidsLimit": False}, ["number of processes", "system calls"]),
    ],
)
def test_what_is_not_enforced_is_told(changes: dict[str, Any], messages: list[str]) -> None:
    findings = list(_limits(GOOD | changes, EVERYTHING))
    assert len(findings) == len(messages)
    assert all(message in finding.message for finding, message in zip(findings, messages, strict=True))
    assert all(finding.remedy for finding in findings)


def test_limits_that_no_template_sets_do_not_matter() -> None:
    assert list(_limits(GOOD | {"MemoryLimit": False, "CpuCfsQuota": False}, Needs())) == []


@pytest.mark.parametrize(("used", "level"), [(0, Level.OK), (90, Level.WARNING), (100, Level.ERROR)])
def test_a_range_of_ports_that_is_nearly_used_up_is_told(used: int, level: Level) -> None:
    finding = _range("web", PortRange(30000, 30099), used, DOCKER)
    assert finding.level is level
    assert f"{100 - used} of 100 are free" in finding.message


@pytest.mark.docker
@on_both
async def test_a_real_engine(harness: DockerHarness) -> None:
    taken = free_port()
    await harness.provisioner().ensure(harness.spec(ports=(Port(8080, host=taken),)), ignore)
    ports = (("web", PortRange(taken, taken)),)
    images = (("web", harness.image), ("other", "no/such:image"), ("offline", "no/other:image"))
    needs = Needs(images=images, host_ports=ports, never_pulled=frozenset({"web", "offline"}))

    findings = await harness.provisioner().diagnose(needs)

    told = {(each.subject, each.message.split()[0]): each for each in findings}
    assert told["engine", "It"].level is Level.OK
    told_of_images = {each.message: each.level for each in findings if "image" in each.message}
    assert told_of_images == {
        f"Its image {harness.image} is at hand.": Level.OK,
        "Its image no/such:image is not at hand; the first start fetches it.": Level.WARNING,
        "Its image no/other:image is not at hand, and `pull: never` forbids to fetch it: no start works.": Level.ERROR,
    }
    assert told["template web", "Of"].level is Level.ERROR
