"""Containers as Docker's own SDK shows them, and every one that ever lived while we watched."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from tests.services.docker_client import docker_client
from tests.support.background import in_background

INSTANCE = "moorage/instance"
RESERVATION = "moorage/reservation-id"
RESOURCE = "moorage/resource-id"


@dataclass(frozen=True)
class Container:
    """One container of an instance of ours."""

    id: str
    name: str
    reservation: str
    resource: str
    state: str
    image: str
    ports: frozenset[int]


class Containers:
    """The containers of one instance on one engine, running or not."""

    def __init__(self, url: str, instance: str) -> None:
        self._url = url
        self._filter = {"label": f"{INSTANCE}={instance}"}

    def all(self) -> list[Container]:
        with docker_client(self._url) as client:
            return [_container(shown) for shown in client.api.containers(all=True, filters=self._filter)]

    def reservations(self) -> list[str]:
        """The reservation of each container, sorted."""
        return sorted(container.reservation for container in self.all())

    def remove_all(self) -> None:
        """Take away whatever a failed test left, and the network that all share.

        Docker 20.10 now and then counts an endpoint whose container is gone; such a network leaves with the engine.
        """
        with docker_client(self._url) as client:
            for shown in client.api.containers(all=True, filters=self._filter):
                with suppress(NotFound):
                    client.api.remove_container(shown["Id"], force=True, v=True)
            for shown in client.api.networks(filters=self._filter):
                try:
                    client.api.remove_network(shown["Id"])
                except NotFound:
                    continue
                except APIError as error:
                    if "has active endpoints" not in str(error):
                        raise

    def turnover(self, image: str, count: int) -> float:
        """How many seconds the engine takes now to create, start and remove so many containers, all at once."""

        def live(_: int) -> None:
            with docker_client(self._url) as client:
                container = client.containers.run(image, ["sleep", "60"], detach=True, init=True)
                container.remove(force=True)

        began = time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(live, range(count)))
        return time.monotonic() - began

    @contextmanager
    def watched(self) -> Iterator["Lives"]:
        """Everything that happens to these containers from here on, as the engine itself reports it."""
        client = docker.DockerClient(base_url=self._url, timeout=600)
        lives = Lives()
        stream = client.events(
            decode=True, since=int(time.time()) - 1, filters={"type": "container", "label": self._filter["label"]}
        )
        thread = threading.Thread(target=lives.follow, args=(stream,), name="docker events", daemon=True)
        thread.start()
        try:
            yield lives
        finally:
            stream.close()
            thread.join(5)
            client.close()

    @contextmanager
    def sampled(self, *, every: float = 0.5) -> Iterator[list[list[Container]]]:
        """All containers, running or not, looked at again and again until the block is left."""
        samples: list[list[Container]] = []

        def look(over: threading.Event) -> None:
            while not over.wait(every):
                samples.append(self.all())

        with in_background(look, name="container sampler"):
            yield samples


class Lives:
    """What containers went through, by reservation, in the engine's order."""

    def __init__(self) -> None:
        self.events: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._times: dict[str, list[float]] = defaultdict(list)

    def follow(self, stream: Any) -> None:
        with suppress(DockerException, RequestException, OSError, AttributeError, ValueError):  # it was closed
            for event in stream:
                labels = event["Actor"]["Attributes"]
                self.events[labels[RESERVATION]].append((event["Action"], event["Actor"]["ID"]))
                self._times[labels[RESERVATION]].append(event["timeNano"] / 1e6)

    def most_at_once(self) -> dict[str, int]:
        """The largest number of containers that ran at the same moment, by reservation."""
        most = {}
        for reservation, events in list(self.events.items()):
            running: set[str] = set()
            most[reservation] = 0
            for action, container in list(events):
                if action == "start":
                    running.add(container)
                elif action in ("die", "destroy"):
                    running.discard(container)
                most[reservation] = max(most[reservation], len(running))
        return most

    def story(self, reservation: str) -> list[tuple[float, str]]:
        """When, as Unix milliseconds, what happened to its containers."""
        actions = (action for action, _ in self.events[reservation])
        return list(zip(self._times[reservation], actions, strict=False))

    def created(self, reservation: str) -> int:
        return sum(action == "create" for action, _ in self.events[reservation])


def _container(shown: Any) -> Container:
    return Container(
        id=shown["Id"],
        name=shown["Names"][0].lstrip("/"),
        reservation=shown["Labels"][RESERVATION],
        resource=shown["Labels"][RESOURCE],
        state=shown["State"],
        image=shown["Image"],
        ports=frozenset(port["PublicPort"] for port in shown["Ports"] if "PublicPort" in port),
    )
