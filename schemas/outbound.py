"""What Moorage publishes: results for machines, notifications for people."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.wire import WireModel

NOTIFICATION_LIMIT = 500
"""The platform cuts notification messages at this many characters."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_RESULT_NAMESPACE = uuid.UUID("6f4d3c0a-52d4-4d39-9a0e-6f1b6c0c7e11")


class Outcome(StrEnum):
    """What became of a reservation's event."""

    PROVISIONED = "provisioned"
    FAILED = "failed"
    RELEASED = "released"
    EXPIRED = "expired"
    UPDATED = "updated"
    SKIPPED = "skipped"


class AccessPort(WireModel):
    """One way in: `port` inside the environment answers on `host_port` of the access's host."""

    port: Annotated[int, Field(ge=1, le=65535)]
    host_port: Annotated[int, Field(ge=1, le=65535)]
    protocol: Literal["tcp", "udp"] = "tcp"


Notes = Annotated[tuple[str, ...], Field(exclude_if=lambda notes: not notes)]


class SecretKey(WireModel):
    """Where in a cluster something lies that is published nowhere."""

    namespace: str
    secret: str
    key: str


class Kubectl(WireModel):
    """Lines to paste for whoever may use the cluster. `port_forward` has one for each TCP port.

    `kubeconfig` is where a login for just this environment lies, if there is one.
    """

    logs: str
    exec: str
    port_forward: tuple[str, ...] = ()
    kubeconfig: SecretKey | None = None


class Access(WireModel):
    """How a user gets in. `url` and `ssh` are ready to paste; both are absent when nothing of the kind runs.

    `kubectl` is there for environments on Kubernetes.
    """

    host: str
    ports: tuple[AccessPort, ...] = ()
    url: str | None = None
    ssh: str | None = None
    kubectl: Kubectl | None = None


def same_way_in(one: Access | None, other: Access | None) -> bool:
    """Whether who knows one of them needs not be told the other: lines for kubectl are a help, and no address."""
    return _without_help(one) == _without_help(other)


def _without_help(access: Access | None) -> Access | None:
    return access and access.model_copy(update={"kubectl": None})


class Reason(WireModel):
    """Why something failed or was skipped: `code` for machines (docs/reference/reasons.md), `message` for people."""

    code: str
    message: str


class Timings(WireModel):
    """Where the time of a provisioning went, in seconds. The first four come one after the other and make `total`.

    `queued` lasts from when its event was taken in until the attempt that succeeded began, `pulled` is what fetching
    the image took, `started` all else until the environment ran, and `ready` the wait from then until it was ready.
    """

    queued: Seconds = 0.0
    pulled: Seconds = 0.0
    started: Seconds = 0.0
    ready: Seconds = 0.0
    total: Seconds = 0.0


class Result(WireModel):
    """One outcome of one revision of one reservation. The same outcome always carries the same `id`.

    `timings` come with what was provisioned for this event; a repetition that finds it running has none.
    `notes` are sentences on what is not as asked for, though the environment runs; left out when there are none.
    """

    id: str
    outcome: Outcome
    event_id: str
    event_type: str
    revision: str
    instance: str
    user_id: str
    username: str | None = None
    resource_id: str
    resource_name: str | None = None
    resource_type: str | None = None
    start: datetime
    end: datetime
    runtime: str | None = None
    template: str | None = None
    environment: str | None = None
    image: str | None = None
    image_digest: str | None = None
    access: Access | None = None
    notes: Notes = ()
    timings: Timings | None = None
    reason: Reason | None = None
    occurred_at: datetime
    webhook_id: str | None = None


class NotificationType(StrEnum):
    SUCCESS = "SUCCESS"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Notification(WireModel):
    """The platform's own notification body."""

    webhook_id: str | None = None
    user_id: str
    message: Annotated[str, Field(max_length=NOTIFICATION_LIMIT)]
    type: NotificationType
    event_id: str
    resource_id: str
    event_type: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class ProgressReport(WireModel):
    """How far a start is that takes long: `stage` is one word (`pulling`), `detail` a short text. No promise of any."""

    event_id: str
    event_type: str
    revision: str
    instance: str
    user_id: str
    resource_id: str
    stage: str
    detail: str
    occurred_at: datetime
    webhook_id: str | None = None


_OF_A_LIFE = (Outcome.PROVISIONED, Outcome.FAILED, Outcome.RELEASED, Outcome.EXPIRED)


def result_id(
    instance: str, reservation_id: str, revision: str, outcome: Outcome, reason: Reason | None = None, life: int = 0
) -> str:
    """The id of an outcome: a UUID (version 5) of what happened, so that a repeated result is recognised.

    What was skipped for one reason and later for another are two outcomes; for all others the reason changes nothing.
    So are what happened to one environment of a revision and, when that was over, to the next: `life` counts them.
    """
    what: str = outcome
    if outcome is Outcome.SKIPPED and reason is not None:
        what = f"{outcome}:{reason.code}"
    elif life and outcome in _OF_A_LIFE:
        what = f"{outcome}:{life}"
    return str(uuid.uuid5(_RESULT_NAMESPACE, "\x1f".join((instance, reservation_id, revision, what))))
