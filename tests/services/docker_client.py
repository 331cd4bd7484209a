"""The Docker SDK's client, closed when done with: one left to the garbage collector is a warning, so a failed test."""

from collections.abc import Iterator
from contextlib import contextmanager

import docker


@contextmanager
def docker_client(url: str, *, seconds: float = 60) -> Iterator[docker.DockerClient]:
    """A client of the engine at `url` that waits `seconds` for an answer."""
    client = docker.DockerClient(base_url=url, timeout=seconds)
    try:
        yield client
    finally:
        client.close()
