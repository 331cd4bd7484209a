"""What an operator decides about the Docker runtime."""

import re
from dataclasses import dataclass
from pathlib import Path

from consumer.provisioners.docker.dialects import DOCKER, Dialect

ISOLATED = "isolated"
"""One network for all environments of an installation, on which they do not reach each other."""

PRIVATE = "private"
"""A network for each environment, removed with it."""

ENGINES_OWN = "default"
"""The engine's own bridge, as it is configured."""

_URL = re.compile(r"(unix|npipe|tcp|http|https|ssh)://.+")
_NETWORK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_NOT_OFFERED = ("host", "none")


def check_network(name: str) -> str:
    """`name`, if containers may be put there. Raises ValueError otherwise."""
    if name in _NOT_OFFERED or not _NETWORK.fullmatch(name):
        raise ValueError(f"network {name!r} is none of isolated, private, default and a network's name; host is none")
    return name


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """Times are seconds. Without `url` the engine is the one the `docker` command would use, or the local Podman.

    `name` is what it is called as a runtime, where there are several of its kind.

    `bind_host` is the address of the engine's machine that ports are published on, `public_host` the host that users
    are told, when it is another. `network` is `ISOLATED`, `PRIVATE`, `ENGINES_OWN` or the name of one that exists;
    `block_metadata` keeps containers on the first two from the cloud's metadata service. `settle` is how long a
    container must have run to count as started, unless it is asked whether it is ready. `stop_timeout` is how long a
    program may take to end by itself; `request_timeout` bounds everything that is neither a creation nor a pull.
    `pids_limit` and `open_files` hold where a template says nothing. `registry_credentials` is a file with logins, as
    `docker login` writes it.
    `tls` is a folder with certificates for an engine on TCP.
    """

    instance: str
    url: str | None = None
    dialect: Dialect = DOCKER
    bind_host: str = "127.0.0.1"
    public_host: str | None = None
    network: str = ISOLATED
    block_metadata: bool = True
    create_timeout: float = 60.0
    pull_timeout: float = 600.0
    stop_timeout: float = 5.0
    request_timeout: float = 30.0
    settle: float = 0.25
    pids_limit: int = 512
    open_files: int = 4096
    log_megabytes: int = 10
    concurrent_requests: int = 64
    registry_credentials: Path | None = None
    tls: Path | None = None
    name: str | None = None

    @property
    def runtime(self) -> str:
        return self.name or self.dialect.runtime

    def __post_init__(self) -> None:
        if not self.instance:
            raise ValueError("instance may not be empty: it tells our containers from those of other installations")
        if self.url is not None and not _URL.fullmatch(self.url):
            raise ValueError("url must look like unix:///var/run/docker.sock, tcp://host:2375 or ssh://user@host")
        check_network(self.network)
        if self.concurrent_requests > 90:
            raise ValueError("concurrent_requests may be at most 90: the client has 100 connections, pulls need some")
