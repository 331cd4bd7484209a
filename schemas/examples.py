"""Messages to show and to try things with: the samples shipped beside this file, and what comes of one of them."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from schemas.outbound import (
    Access,
    AccessPort,
    Kubectl,
    Notification,
    NotificationType,
    Outcome,
    ProgressReport,
    Result,
    Timings,
    result_id,
)

INSTANCE = "lab"

_START = datetime(2026, 3, 2, 8, tzinfo=UTC)


def sample(name: str) -> bytes:
    """The bytes of a shipped sample, such as `event_start`. Raises `FileNotFoundError` when there is none."""
    return (files("schemas") / "samples" / f"{name}.json").read_bytes().strip()


def sample_document(name: str) -> Any:
    """A shipped sample as Python objects."""
    return json.loads(sample(name))


def example_result() -> Result:
    """What Moorage says of the sample `event_start` once its environment runs."""
    revision = "cc9d38b3528a"
    return Result(
        id=result_id(INSTANCE, "1841", revision, Outcome.PROVISIONED),
        outcome=Outcome.PROVISIONED,
        event_id="1841",
        event_type="EVENT_START",
        revision=revision,
        instance=INSTANCE,
        user_id="5f0c8a52-6d5e-4c0e-9a55-6f1f0a4d2b11",
        username="mario_rossi",
        resource_id="12",
        resource_name="GPU Server 1",
        resource_type="Linux container",
        start=_START,
        end=_START.replace(hour=10),
        runtime="docker",
        template="linux",
        environment="r-mario-rossi-gpu-server-1-09f8c309e0",
        image="nginx:1.27",
        image_digest="sha256:6784fb0834aa7dbbe12e3d7471e69c290df3e6ba810dc38b34ae33d3c1c05f7d",
        access=Access(
            host="lab-3.example.org",
            ports=(AccessPort(port=22, host_port=32771), AccessPort(port=80, host_port=32772)),
            url="http://lab-3.example.org:32772",
            ssh="ssh -p 32771 user@lab-3.example.org",
        ),
        timings=Timings(queued=0.42, pulled=6.315, started=1.106, ready=0.75, total=8.591),
        occurred_at=datetime(2026, 3, 2, 7, 55, 9, 250_000, tzinfo=UTC),
        webhook_id="7",
    )


def example_kubectl() -> Kubectl:
    """What `access` has of kubectl for an environment on Kubernetes."""
    call, pod = "kubectl -n labs", "pod/r-ann-gpu-1-0a1b2c3d4e"
    return Kubectl(
        logs=f"{call} logs -f {pod} -c environment",
        exec=f"{call} exec -it {pod} -c environment -- sh",
        port_forward=(f"{call} port-forward {pod} 8080:80",),
    )


def example_notification() -> Notification:
    """What the user of `example_result` is told."""
    result = example_result()
    return Notification(
        webhook_id=result.webhook_id,
        user_id=result.user_id,
        message="GPU Server 1 is ready until 10:00 UTC. Log in: ssh -p 32771 user@lab-3.example.org · "
        "In a browser: http://lab-3.example.org:32772",
        type=NotificationType.SUCCESS,
        event_id=result.event_id,
        resource_id=result.resource_id,
        event_type=result.event_type,
        metadata={
            "resultId": result.id,
            "outcome": "provisioned",
            "runtime": "docker",
            "host": "lab-3.example.org",
            "ports": {"22": 32771, "80": 32772},
        },
    )


def example_progress() -> ProgressReport:
    """What Moorage says of the same start while its image is on the way."""
    return ProgressReport(
        event_id="1841",
        event_type="EVENT_START",
        revision="1",
        instance=INSTANCE,
        user_id="5f0c8a52-6d5e-4c0e-9a55-6f1f0a4d2b11",
        resource_id="12",
        stage="pulling",
        detail="nginx:1.27: 3 of 7 layers, 21 of 67 MB",
        occurred_at=datetime(2026, 3, 2, 7, 55, 5, 125_000, tzinfo=UTC),
        webhook_id="7",
    )
