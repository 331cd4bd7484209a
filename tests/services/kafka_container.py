"""Kafka as a container of the official image, for people who have a Docker Engine and no Java."""

import functools
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from docker.errors import DockerException, ImageNotFound
from testcontainers.core.container import DockerContainer

from tests.services.docker_client import docker_client
from tests.services.engine import running_engine
from tests.services.kafka_settings import cluster_properties, knows_members
from tests.services.missing import ServiceMissing, say
from tests.services.ports import free_port
from tests.services.rundir import DidNotStart

_IMAGE = "apache/kafka:4.4.0"
_FIRST_SIGN_SECONDS = 15
_PULL_SECONDS = 180
_START_SECONDS = 45


def start_container(nodes: int, settings: Mapping[str, str]) -> "ContainerNode":
    """Raises ServiceMissing without an engine on this machine that has or gets the image; runs one node only."""
    if nodes != 1:
        raise ServiceMissing("a cluster of several nodes is not run in containers")
    if problem := image_problem():
        raise ServiceMissing(problem)
    node = ContainerNode(settings)
    try:
        node.start(1)
    except BaseException:
        node.stop()
        raise
    return node


@functools.cache
def image_problem() -> str | None:
    """Why the image cannot be had, found out once; None if it is there. Never hangs, whatever the network does."""
    url = running_engine()
    if url is None or not url.startswith("unix://"):
        return "no Docker Engine runs on this machine"
    try:
        with docker_client(url) as client:
            client.images.get(_IMAGE)
    except ImageNotFound:
        return _pull(url)
    except DockerException as error:
        return f"the Docker Engine at {url} refused: {error}"
    return None


def _pull(url: str) -> str | None:
    say(f"pulling {_IMAGE}")
    alive, done = threading.Event(), threading.Event()
    problems: list[str] = []

    def pull() -> None:
        try:
            with docker_client(url) as client:
                for progress in client.api.pull(*_IMAGE.split(":"), stream=True, decode=True):
                    problems.extend(filter(None, [progress.get("error")]))
                    alive.set()
        except (DockerException, OSError) as error:
            problems.append(str(error))
        alive.set()
        done.set()

    threading.Thread(target=pull, name=f"pull {_IMAGE}", daemon=True).start()
    if not alive.wait(_FIRST_SIGN_SECONDS):
        return f"pulling {_IMAGE} shows no sign of life"
    if not done.wait(_PULL_SECONDS):
        return f"pulling {_IMAGE} takes more than {_PULL_SECONDS} s; `docker pull` it by hand"
    return f"{_IMAGE} cannot be pulled ({problems[0]})" if problems else None


class ContainerNode:
    """One node, on a port of the host that stays the same when the container is killed and started again."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._port = free_port()
        properties = {
            **cluster_properties(1),
            **settings,
            "node.id": "1",
            "process.roles": "broker,controller",
            "controller.quorum.voters": "1@localhost:9093",
            "controller.listener.names": "CONTROLLER",
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        }
        environment = {"KAFKA_" + key.replace(".", "_").upper(): value for key, value in properties.items()}
        engine = {"environment": {**os.environ, "DOCKER_HOST": running_engine()}}
        self._container = DockerContainer(_IMAGE, engine, env=environment)
        self._container.with_bind_ports(9092, self._port)
        self._created = False
        self.bootstrap_servers = f"127.0.0.1:{self._port}"

    def kill(self, node: int) -> None:
        self._wrapped().kill()

    def start(self, node: int) -> None:
        if self._created:
            self._wrapped().start()
        else:
            self._container.start()
            self._created = True
        deadline = time.monotonic() + _START_SECONDS
        while not knows_members(self._port, {self._port}):
            self._wrapped().reload()
            if self._wrapped().status == "exited" or time.monotonic() > deadline:
                raise DidNotStart(f"the Kafka container: its log ends:\n{self._wrapped().logs(tail=40).decode()}")
            time.sleep(0.1)

    def stop(self) -> None:
        self._container.stop(force=True, delete_volume=True)

    def _wrapped(self) -> Any:  # testcontainers and the Docker SDK ship no type information for it
        return self._container.get_wrapped_container()
