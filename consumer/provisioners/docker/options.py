"""What an operator decides about the Docker runtime."""

import re
from dataclasses import dataclass

_URL = re.compile(r"(unix|npipe|tcp|http|https|ssh)://.+")


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """Times are seconds. Without `url` the engine is the one the `docker` command would use.

    `bind_host` is the address of the engine's machine that ports are published on, `public_host` the host that users
    are told, when it is another. `network` is the network of the containers, the engine's default bridge if None.
    `settle` is how long a container must have run to count as started. `stop_timeout` is how long a program may take
    to end by itself; `request_timeout` bounds everything that is neither a creation nor a pull.
    """

    instance: str
    url: str | None = None
    bind_host: str = "127.0.0.1"
    public_host: str | None = None
    network: str | None = None
    create_timeout: float = 60.0
    pull_timeout: float = 600.0
    stop_timeout: float = 5.0
    request_timeout: float = 30.0
    settle: float = 0.25
    pids_limit: int = 512
    log_megabytes: int = 10
    concurrent_requests: int = 64

    def __post_init__(self) -> None:
        if not self.instance:
            raise ValueError("instance may not be empty: it tells our containers from those of other installations")
        if self.url is not None and not _URL.fullmatch(self.url):
            raise ValueError("url must look like unix:///var/run/docker.sock, tcp://host:2375 or ssh://user@host")
        if self.concurrent_requests > 90:
            raise ValueError("concurrent_requests may be at most 90: the client has 100 connections, pulls need some")
