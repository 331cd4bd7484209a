"""The whole life of reservations on a real Kubernetes API server, as a service of its own lives through it."""

from pathlib import Path

import pytest

from consumer.catalog.identity import INSTANCE
from tests.services import KafkaBroker, Kubernetes
from tests.support.installation import installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.kubernetes, pytest.mark.timeout(150)]

TEMPLATES = """\
version: 1
templates:
  - name: web
    runtime: kubernetes
    image: registry.example.org/web:1
    ports: ["8080"]
    security: {capabilities: [%s]}
"""


def test_reservations_run_end_and_are_told_as_on_every_runtime(
    kafka: KafkaBroker, kubernetes: Kubernetes, tmp_path: Path
) -> None:
    templates, ended, lost, refused = tmp_path / "templates.yaml", Booking("1"), Booking("2"), Booking("3")
    with kubernetes.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as namespace:
        settings = {
            "KUBECONFIG": str(kubernetes.kubeconfig),
            "K8S_NAMESPACE": namespace,
            "MOORAGE_TEMPLATES": str(templates),
            "MOORAGE_KUBERNETES_SERVICE": "node-port",
            "MOORAGE_RECONCILE_DELAY": "1",
        }
        with installation(kafka.bootstrap_servers, tmp_path, **settings) as ours:
            templates.write_text(TEMPLATES % "")
            with ours.service(kind=Service) as service:
                for booking in (ended, lost):
                    ours.publish(Message(booking.start_event(), booking.id.encode()))
                ours.settle()
                name = ours.look().results[lost.id][0]["environment"]
                kubernetes.kubectl("delete", "pod", name, f"--namespace={namespace}")
                ours.publish(Message(ended.end_event(), ended.id.encode()))
                eventually(lambda: len(ours.look().results[lost.id]) == 2, what="the loss is told")
                ours.settle()
                assert service.stop() == 0
            templates.write_text(TEMPLATES % "SYS_CHROOT")
            with ours.service(kind=Service) as service:
                ours.publish(Message(refused.start_event(), refused.id.encode()))
                ours.settle()
                assert service.stop() == 0
            results = ours.look().results
        left = kubernetes.get("pods,configmaps", f"--selector={INSTANCE}", f"--namespace={namespace}")

    provisioned, released = results[ended.id]
    assert provisioned["access"]["url"].startswith("http://")
    assert released["outcome"] == "released"
    assert results[lost.id][1]["reason"]["code"] == "lost"
    (failed,) = results[refused.id]
    assert failed["reason"]["code"] == "invalid_spec"
    assert "SYS_CHROOT" in failed["reason"]["message"]
    assert left["items"] == []
