"""The Docker SDK's client, closed when done with: one left to the garbage collector is a warning, so a failed test."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import docker
from docker.errors import DockerException


@contextmanager
def docker_client(url: str, *, seconds: float = 60) -> Iterator[docker.DockerClient]:
    """A client of the engine at `url` that waits `seconds` for an answer."""
    client = docker.DockerClient(base_url=url, timeout=seconds)
    try:
        yield client
    finally:
        client.close()


def remove_containers_and_networks(url: str) -> None:
    """Remove whatever the engine has of them, as far as it lets us."""
    with suppress(DockerException), docker_client(url, seconds=10) as client:
        for container in client.containers.list(all=True):
            with suppress(DockerException):
                container.kill()  # Podman's removal would ask it to end, and wait
            with suppress(DockerException):
                container.remove(force=True, v=True)
        client.networks.prune()


def accepts(path: str) -> bool:
    """Whether a Unix socket takes connections. Asked first because the SDK leaks its own socket where it is refused."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
