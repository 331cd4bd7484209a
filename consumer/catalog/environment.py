"""The complete, checked description of an environment: everything a provisioner needs and nothing it must decide."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from consumer.catalog.routes import Route, identity_of
from consumer.catalog.security import Security
from consumer.catalog.ssh_keys import Login
from schemas.events import Resource, User

Protocol = Literal["tcp", "udp"]
PullPolicy = Literal["always", "if-not-present", "never"]
ServiceType = Literal["cluster", "node-port", "load-balancer"]
PodSecurity = Literal["restricted", "baseline", "privileged"]
VolumeAccess = Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]

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
class Readiness:
    """What must hold within `within` seconds of the start.

    `port` is one of the environment's TCP ports; with `path` a page there must answer, without a connection is enough.
    `health`: where the image brings a health check of its own, it must pass.
    """

    port: int | None = None
    path: str | None = None
    health: bool = True
    within: float = 60.0


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume to mount at `path`: made if it is not there, and never taken from somebody else.

    `key` is the label value that tells whose it is. `labels` are all that it carries. `storage_class` and `access_mode`
    are of clusters; None for what the runtime's own settings decide.
    """

    name: str
    key: str
    path: str
    labels: Mapping[str, str]
    size_bytes: int | None = None
    storage_class: str | None = None
    access_mode: VolumeAccess | None = None


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """What a template says of the runtime `kubernetes` alone; None for what the runtime's own settings decide.

    `service` is how ports are reached, `runtime_class` the name of one of the cluster's, such as `gvisor`.
    `route` leads to the HTTP port. With `kubeconfig` there is one for the user, that leads to nothing but their pod.
    `requests` are what a node sets aside, at most the limits; where there is none it is as much as the limit.
    """

    service: ServiceType | None = None
    runtime_class: str | None = None
    route: Route | None = None
    kubeconfig: bool = False
    requests: Limits = Limits()


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What to provision. `key` is the label value (a hash of instance and reservation) that finds it again.

    `runtimes` are where it may be made: the engines of a pool, or nothing but `runtime`.

    `image_digest` pins the image to the content that ran before; None takes what its tag means now. `login` is whom to
    let in by SSH. With `must_enforce` no limit may be left out because the runtime cannot hold the environment to it.
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
    runtimes: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_dir: str | None = None
    limits: Limits = Limits()
    ports: tuple[Port, ...] = ()
    access: AccessHints = AccessHints()
    login: Login | None = None
    volume: Volume | None = None
    gpus: int | Literal["all"] | None = None
    devices: tuple[str, ...] = ()
    must_enforce: bool = False
    security: Security = field(default_factory=Security)
    kubernetes: Kubernetes = Kubernetes()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    pull: PullPolicy = "if-not-present"
    image_digest: str | None = None
    start_timeout: float | None = None
    ready: Readiness = Readiness()
    notes: tuple[str, ...] = ()

    @property
    def spec_hash(self) -> str:
        """16 hex digits over all that makes the environment what it is: a later end is not a different one.

        The variables that describe the reservation do not count: one holds its end, and the platform sends the same
        event sometimes with and sometimes without what it looks up (user name, e-mail, SSH key).
        """
        identity: dict[str, Any] = {
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
        # Only where there are any: environments of templates without stay what they are.
        identity |= {"entrypoint": self.entrypoint} if self.entrypoint else {}
        identity |= {"volume": (self.volume.name, self.volume.path)} if self.volume else {}
        identity |= {"devices": (self.gpus, self.devices)} if self.gpus or self.devices else {}
        if replace(self.kubernetes, kubeconfig=False, requests=Limits()) != Kubernetes():
            identity["kubernetes"] = (self.kubernetes.service, self.kubernetes.runtime_class)
        if self.kubernetes.requests != Limits():
            identity["requests"] = astuple(self.kubernetes.requests)
        if self.kubernetes.route is not None:
            identity["route"] = identity_of(self.kubernetes.route)
        if self.security != Security():  # what was made before there was a choice stays what it was
            identity["security"] = self.security.identity()
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
