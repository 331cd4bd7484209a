"""Podman's API service for tests: the one that runs on this machine, or one of our own, rootful or rootless."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from docker.errors import DockerException

from tests.services.docker_client import accepts, docker_client, remove_containers_and_networks
from tests.services.image import prepare_image
from tests.services.missing import ServiceMissing, say
from tests.services.packages import need
from tests.services.podman_service import command_of, url_of, write_service
from tests.services.rundir import DidNotStart, RunDir, wait_until_ready

_START_SECONDS = 45


@dataclass(frozen=True)
class PodmanEngine:
    """A Podman that answers the Docker Engine's API at `url` and has the test image `image`."""

    url: str
    image: str
    run_dir: RunDir | None = None
    """Where our own service lives; None for one that was here before us."""

    @classmethod
    def start(cls, *, keep: bool = False) -> Self:
        """The service of PODMAN_HOST or of a usual socket; as root on Linux, one of our own. Raises ServiceMissing."""
        if url := running_podman():
            return cls(url, _with_image(url))
        return cls.start_own(keep=keep)

    @classmethod
    def start_own(cls, *, rootless: bool = False, keep: bool = False) -> Self:
        """A service that shares neither socket nor storage nor network with any other on this machine."""
        prepare_podman_programs()
        run_dir = RunDir.create("podman", keep=keep)
        try:
            write_service(run_dir.path, rootless=rootless)
            _start(run_dir)
            run_dir.announce("PODMAN_HOST", url_of(run_dir.path))
            return cls(url_of(run_dir.path), _with_image(url_of(run_dir.path)), run_dir)
        except BaseException:
            run_dir.end()
            raise

    def stop(self) -> None:
        """End our own service with its containers; one that was here before us is left alone."""
        if self.run_dir is not None:
            stop_podman(self.run_dir)


def running_podman() -> str | None:
    """The address of a Podman that answers, if there is one."""
    if host := os.environ.get("PODMAN_HOST"):
        candidates = [host]
    else:
        runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"))
        candidates = [f"unix://{folder}/podman/podman.sock" for folder in (Path("/run"), runtime)]
    return next((url for url in candidates if _answers(url)), None)


def prepare_podman_programs() -> None:
    """Install what a service of our own needs. Raises ServiceMissing where that cannot be."""
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        raise ServiceMissing("no Podman answers, and only root on Linux can start one: start podman.socket, try again")
    if "/usr/sbin" not in os.environ["PATH"].split(os.pathsep):  # where runc and ip are
        os.environ["PATH"] += ":/usr/sbin:/sbin"
    need({"podman": "podman", "catatonit": "catatonit", "runc": "runc", "iptables": "iptables", "ip": "iproute2"})
    need({"newuidmap": "uidmap", "slirp4netns": "slirp4netns", "busybox": "busybox-static"})


def stop_podman(run_dir: RunDir) -> None:
    """Take the containers away while the service can clean up behind them; then end it."""
    if _answers(url_of(run_dir.path)):
        remove_containers_and_networks(url_of(run_dir.path))
    run_dir.end()


def _start(run_dir: RunDir) -> None:
    say("starting a Podman")
    log = run_dir.path / "podman.log"
    service = run_dir.launch(command_of(run_dir.path), log)
    try:
        wait_until_ready(service, lambda: _answers(url_of(run_dir.path)), seconds=_START_SECONDS, log=log)
    except DidNotStart as error:
        raise ServiceMissing(f"Podman cannot run here: {error}") from error


def _answers(url: str) -> bool:
    """Whether it is a Podman that answers, not a Docker Engine."""
    if url.startswith("unix://") and not accepts(url.removeprefix("unix://")):
        return False
    try:
        with docker_client(url, seconds=5) as client:
            return "Libpod-Api-Version" in client.api.get(f"{client.api.base_url}/_ping").headers
    except (DockerException, OSError):
        return False


def _with_image(url: str) -> str:
    with docker_client(url) as client:
        return prepare_image(client)
