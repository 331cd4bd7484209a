"""Messages to show and to try things with: the samples shipped beside this file, and one result."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from schemas.outbound import Access, AccessPort, Outcome, Result, result_id

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
    revision = "1"
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
        environment="r-mario-rossi-gpu-server-1-0f3a5c7e91",
        image="nginx:1.27",
        access=Access(
            host="lab-3.example.org",
            ports=(AccessPort(port=80, host_port=32772), AccessPort(port=22, host_port=32771)),
            url="http://lab-3.example.org:32772/",
            ssh="ssh -p 32771 user@lab-3.example.org",
        ),
        occurred_at=datetime(2026, 3, 2, 7, 55, 9, 250_000, tzinfo=UTC),
        webhook_id="7",
    )
