"""Two Kubernetes clusters in a pool, of which one does not answer for a while: the other takes what comes meanwhile."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from consumer.cli.doctor import _examine
from consumer.handling.ports import Finding, Level
from consumer.settings import Settings
from tests.provisioners.kubernetes.proxy import ApiProxy
from tests.services import KafkaBroker, Kubernetes
from tests.support.background import in_background
from tests.support.installation import Installation, installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.kubernetes, pytest.mark.timeout(240)]

TEMPLATES = """\
version: 1
engines:
  - {{name: east, runtime: kubernetes, kubeconfig: {east[0]}, namespace: {east[1]}, capacity: 3}}
  - name: west
    runtime: kubernetes
    kubeconfig: {west[0]}
    namespace: {west[1]}
    public_host: west.example.org
    capacity: 3
templates:
  - name: web
    runtime: kubernetes
    engines: [east, west]
    image: registry.example.org/web:1
    ports: ["8080"]
    kubernetes: {{service: node-port}}
    restart: always
"""
SETTINGS = {
    "MOORAGE_RECONCILE_INTERVAL": "1",
    "MOORAGE_RECONCILE_DELAY": "2",
    "MOORAGE_RUNTIME_CONCURRENCY": "kubernetes@east=2",
    "MOORAGE_GROUP_INSTANCE": "one",
}
"""With a name of its own in the group, whoever comes after a crash need not wait until the first is given up."""
PATIENCE = 90.0


class Cluster:
    """What is in one namespace, told by somebody who does not go through the door."""

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        self._kubernetes, self._namespace = kubernetes, namespace

    def pods(self) -> list[str]:
        """The reservation of each pod, sorted."""
        found = self._kubernetes.get("pods", f"--namespace={self._namespace}")["items"]
        return sorted(each["metadata"]["annotations"]["moorage/reservation-id"] for each in found)

    def anchors(self) -> int:
        found = self._kubernetes.get("configmaps", f"--namespace={self._namespace}", "--selector=managed-by=moorage")
        return len(found["items"])


def test_one_cluster_down_stops_nobody_on_the_other(kafka: KafkaBroker, kubernetes: Kubernetes, tmp_path: Path) -> None:
    first = [Booking(str(number)) for number in range(1, 5)]
    late = Booking("11")
    with (
        kubernetes.namespace() as namespace,
        kubernetes.namespace() as other,
        door(kubernetes, tmp_path) as west,
        installation(kafka.bootstrap_servers, tmp_path, **SETTINGS) as ours,
    ):
        places = {"east": (kubernetes.kubeconfig, namespace), "west": (west.kubeconfig, other)}
        templates = tmp_path / "templates.yaml"
        templates.write_text(TEMPLATES.format(**places))
        ours.settings["MOORAGE_TEMPLATES"] = str(templates)
        on_east, on_west = Cluster(kubernetes, namespace), Cluster(kubernetes, other)
        with ours.service() as service:
            begin(ours, *first)
            ours.settle(seconds=PATIENCE)
            before = on_east.pods(), on_west.pods()
            assert [len(names) for names in before] == [2, 2]

            west.down = True
            begin(ours, late)
            eventually(lambda: late.id in on_east.pods(), what="the other cluster takes it", seconds=PATIENCE)
            end(ours, before[0][0], before[1][0])
            eventually(lambda: before[0][0] not in on_east.pods(), what="what is there ends", seconds=PATIENCE)
            examined = findings(ours)
            assert examined["kubernetes@east, API"].level is Level.OK
            assert examined["kubernetes@west, API"].message == "The Kubernetes API cannot be reached."
            service.kill()

        with ours.service("again") as service:
            service.wait_for("state_restored")
            west.down = False
            ours.settle(seconds=PATIENCE)
            eventually(lambda: on_west.pods() == before[1][1:], what="it ends on the other too", seconds=PATIENCE)
            assert on_east.pods() == sorted((*before[0][1:], late.id))
            end(ours, *(each.id for each in (*first, late)))
            ours.settle(seconds=PATIENCE)
            assert service.stop() == 0
        assert (on_east.pods(), on_west.pods(), on_east.anchors(), on_west.anchors()) == ([], [], 0, 0)
        seen = ours.look().read()

    assert seen.dead_letters == []
    assert seen.unanswered() == []
    assert seen.out_of_order() == []
    for name, results in seen.results.items():
        for result in results:
            if result["outcome"] == "provisioned":
                on = "kubernetes@west" if name in before[1] else "kubernetes@east"
                assert result["runtime"] == on
                assert (result["access"]["host"] == "west.example.org") is (on == "kubernetes@west")


@contextmanager
def door(kubernetes: Kubernetes, folder: Path) -> Iterator[ApiProxy]:
    """A way to the API server that can be closed, in a thread of its own."""
    opened: SimpleQueue[ApiProxy] = SimpleQueue()

    async def stand(over: threading.Event) -> None:
        async with ApiProxy(str(kubernetes.kubeconfig), folder) as proxy:
            opened.put(proxy)
            await asyncio.to_thread(over.wait)

    with in_background(lambda over: asyncio.run(stand(over)), name="door"):
        yield opened.get(timeout=30)


def findings(ours: Installation) -> dict[str, Finding]:
    """What an installation's doctor finds, by subject."""
    found = asyncio.run(_examine(Settings(**ours.settings), kafka=False, image=None))
    return {each.subject: each for each in found}


def begin(ours: Installation, *bookings: Booking) -> None:
    ours.publish(*(Message(each.start_event(), each.id.encode()) for each in bookings))


def end(ours: Installation, *names: str) -> None:
    ours.publish(*(Message(Booking(name).end_event(), name.encode()) for name in names))
