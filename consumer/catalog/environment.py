"""The complete, checked description of an environment: everything a provisioner needs and nothing it must decide."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from schemas.events import Resource, User

Protocol = Literal["tcp", "udp"]

RESERVED_VARIABLES = frozenset(
    {
        "USER",
        "USER_ID",
        "USER_EMAIL",
        "RESOURCE_ID",
        "RESOURCE_NAME",
        "RESOURCE_TYPE",
        "RESERVATION_ID",
        "RESERVATION_START",
        "RESERVATION_END",
    }
)
"""Variables that Moorage sets in every environment; nobody else's value for them counts."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port the environment listens on. Without `host` the runtime allocates one."""

    container: int
    host: int | None = None
    service: int | None = None
    protocol: Protocol = "tcp"


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of an environment; None means that the runtime's own default applies."""

    cpu_millis: int | None = None
    memory_bytes: int | None = None
    storage_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class AccessHints:
    """Which container ports mean something to a person: where a page answers, where sshd does and for whom."""

    http_port: int | None = None
    ssh_port: int | None = None
    ssh_user: str | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What to provision. `key` is the label value (a hash of instance and reservation) that finds it again.

    `start_timeout` is seconds, None for the runtime's own. `notes` are sentences for the user about what is not as
    asked for: a substituted image, an ignored parameter.
    """

    name: str
    key: str
    runtime: str
    template: str
    image: str
    user: User
    resource: Resource
    reservation_id: str
    expires_at: datetime
    command: tuple[str, ...] = ()
    working_dir: str | None = None
    limits: Limits = Limits()
    ports: tuple[Port, ...] = ()
    access: AccessHints = AccessHints()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    start_timeout: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def spec_hash(self) -> str:
        """16 hex digits over all that makes the environment what it is: a later end is not a different one.

        The variables that describe the reservation do not count: one holds its end, and the platform sends the same
        event sometimes with and sometimes without what it looks up (user name, e-mail).
        """
        identity = {
            "runtime": self.runtime,
            "image": self.image,
            "command": self.command,
            "working_dir": self.working_dir,
            "limits": (self.limits.cpu_millis, self.limits.memory_bytes, self.limits.storage_bytes),
            "ports": [(p.container, p.host, p.service, p.protocol) for p in self.ports],
            "environment": sorted((k, v) for k, v in self.environment.items() if k not in RESERVED_VARIABLES),
            "user": self.user.id,
            "resource": self.resource.id,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
