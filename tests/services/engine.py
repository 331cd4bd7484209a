"""A Docker Engine for tests: the one that runs on this machine, or one of our own."""

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from docker.errors import DockerException

from tests.services.docker_client import accepts, docker_client, remove_containers_and_networks
from tests.services.host_network import HostNetwork
from tests.services.image import prepare_image
from tests.services.missing import ServiceMissing, say
from tests.services.packages import need
from tests.services.rundir import UNDO, DidNotStart, RunDir, wait_until_ready

_START_SECONDS = 45
_STOP_SECONDS = 15


@dataclass(frozen=True)
class DockerEngine:
    """An engine that answers at `url` and has the test image `image`."""

    url: str
    image: str
    run_dir: RunDir | None = None
    """Where our own engine lives; None for one that was here before us."""

    @property
    def filters(self) -> bool:
        """Whether it may use iptables. One that is not ours, or that is not here, does unless it is told otherwise."""
        return not self.url.startswith("unix://") or HostNetwork.filters_at(
            Path(self.url.removeprefix("unix://")).parent
        )

    @classmethod
    def start(cls, *, keep: bool = False) -> Self:
        """The engine of DOCKER_HOST or of a usual socket; as root on Linux, one of our own. Raises ServiceMissing."""
        if url := running_engine():
            return cls(url, _with_image(url))
        return cls.start_own(keep=keep)

    @classmethod
    def start_own(cls, *, keep: bool = False, disk_megabytes: int | None = None) -> Self:
        """An engine that shares neither socket nor storage nor network with any other on this machine.

        With `disk_megabytes`, all that it stores lies on a file system of this size.
        """
        prepare_engine_programs()
        run_dir = RunDir.create("docker", keep=keep)
        try:
            if disk_megabytes is not None:
                _mount_disk(run_dir.path / "data", disk_megabytes)
            url = _start_dockerd(run_dir)
            run_dir.announce("DOCKER_HOST", url)
            return cls(url, _with_image(url), run_dir)
        except BaseException:
            run_dir.end()
            raise

    def halt(self) -> None:
        """Have our own engine leave, as `systemctl stop` does: its containers are stopped, and kept."""
        assert self.run_dir is not None, "somebody else's engine is not ours to stop"
        _leave(self.run_dir)

    def resume(self) -> None:
        """Start it again after `halt`, with what it had."""
        assert self.run_dir is not None
        network = HostNetwork.claimed(self.run_dir.path)
        assert network is not None
        _launch_dockerd(self.run_dir, network)

    def stop(self) -> None:
        """End our own engine with its containers; one that was here before us is left alone."""
        if self.run_dir is not None:
            stop_engine(self.run_dir)


def running_engine() -> str | None:
    """The address of an engine that answers, if there is one."""
    if host := os.environ.get("DOCKER_HOST"):
        candidates = [host]
    else:
        runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"))
        paths = [Path("/var/run/docker.sock"), runtime / "docker.sock", Path.home() / ".docker/run/docker.sock"]
        candidates = [f"unix://{path}" for path in paths]
    return next((url for url in candidates if _answers(url)), None)


def prepare_engine_programs() -> None:
    """Install what an engine of our own needs. Raises ServiceMissing where that cannot be."""
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        raise ServiceMissing("no Docker Engine answers, and only root on Linux can start one: start Docker, try again")
    if "/usr/sbin" not in os.environ["PATH"].split(os.pathsep):  # where dockerd and ip are
        os.environ["PATH"] += ":/usr/sbin:/sbin"
    need({"dockerd": "docker.io", "iptables": "iptables", "ip": "iproute2", "busybox": "busybox-static"})


def stop_engine(run_dir: RunDir) -> None:
    """Take the containers away, let dockerd leave in order, then end what is left in its folder."""
    if _answers(_url(run_dir)):
        remove_containers_and_networks(_url(run_dir))
    _leave(run_dir)
    run_dir.end()


def _leave(run_dir: RunDir) -> None:
    daemons = [process for process in run_dir.processes() if process.name() == "dockerd"]
    for daemon in daemons:
        daemon.terminate()
        with contextlib.suppress(Exception):
            daemon.wait(_STOP_SECONDS)


def _mount_disk(folder: Path, megabytes: int) -> None:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "moorage", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise ServiceMissing(f"an engine cannot have a small disk of its own here: {error.stderr}") from error


def _start_dockerd(run_dir: RunDir) -> str:
    return _launch_dockerd(run_dir, HostNetwork.claim(run_dir.path))


def _launch_dockerd(run_dir: RunDir, network: HostNetwork) -> str:
    log = run_dir.path / "dockerd.log"
    config = run_dir.path / "daemon.json"
    config.write_text("{}")  # the machine's own configuration is not for this engine
    command = [
        shutil.which("dockerd") or "dockerd",
        f"--host={_url(run_dir)}",
        f"--data-root={run_dir.path}/data",
        f"--exec-root={run_dir.path}/exec",
        f"--pidfile={run_dir.path}/dockerd.pid",
        f"--bridge={network.bridge}",
        f"--default-address-pool=base={network.pool},size=24",
        f"--iptables={str(network.filters).lower()}",
        f"--cgroup-parent=/{run_dir.path.name}",  # by which containers are known to be ours, should dockerd be killed
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--config-file={config}",
        "--shutdown-timeout=5",
    ]
    say("starting a Docker Engine")
    daemon = run_dir.launch(command, log)
    try:
        wait_until_ready(daemon, lambda: _answers(_url(run_dir)), seconds=_START_SECONDS, log=log)
    except DidNotStart as error:
        raise ServiceMissing(f"a Docker Engine cannot run here: {error}") from error
    return _url(run_dir)


def _url(run_dir: RunDir) -> str:
    return f"unix://{run_dir.path}/docker.sock"


def _answers(url: str) -> bool:
    if url.startswith("unix://") and not accepts(url.removeprefix("unix://")):
        return False
    try:
        with docker_client(url, seconds=5) as client:
            return bool(client.ping())
    except DockerException:
        return False


def _with_image(url: str) -> str:
    with docker_client(url) as client:
        return prepare_image(client)


UNDO.append(HostNetwork.give_back)
