"""What an operator decides about the Kubernetes runtime."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from consumer.catalog.environment import PodSecurity, ServiceType, VolumeAccess
from consumer.catalog.identity import NAMESPACE
from consumer.catalog.namespace_bounds import Quantities

_LONGEST_PREFIX = 39
"""What leaves room in a name of 63 characters for a user."""


@dataclass(frozen=True, slots=True)
class UserNamespaces:
    """What each user's namespace has: a level of Pod Security, a quota, and the limits of containers that state none.

    `role` is the ClusterRole that Moorage binds itself to there, if it does not have its rules everywhere.
    """

    pod_security: PodSecurity = "restricted"
    quota: Quantities = field(default_factory=dict)
    limits: Quantities = field(default_factory=dict)
    role: str | None = None


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """Times are seconds. Without `kubeconfig` it is the cluster that Moorage runs in, or `~/.kube/config`.

    `name` is what it is called as a runtime, where there are several clusters.

    `kubeconfig` may be several files with colons between them, as kubectl takes it; without `context` its current one
    counts. With `users` each user has a namespace, whose name begins with `namespace`.
    `service` is how ports are reached where a template does not say. `public_host` is the host that users are told for
    node ports, instead of the address of the pod's node; `public_server` the API server's URL as users reach it, if
    that is another than ours. `storage_class`, the cluster's own default if None, `volume_size` and `volume_access`
    hold for volumes of which a template does not say what they are like.
    `registry_credentials` is a file with logins, as `docker login` writes it.

    `start_timeout` is how long a start may take where a template does not say; what still waits for its node shortly
    before is given up with what the cluster tells of it. `schedule_timeout` is how long a pod may wait for a node that
    has room; `address_timeout` how long a load balancer may take to have an address, or a Gateway to take a route.
    `max_lease` is after how long the cluster itself ends a pod that nobody has ended.
    `settle` is how long a pod must have run to count as started, unless it is asked whether it is ready.
    `stop_timeout` is how long a program may take to end by itself, `gone_timeout` how long its pod may take to go.
    `request_timeout` bounds one request, `requests_per_second` all of them, after a burst of twice as many.
    """

    instance: str
    namespace: str = "default"
    kubeconfig: str | None = None
    context: str | None = None
    users: UserNamespaces | None = None
    service: ServiceType = "cluster"
    public_host: str | None = None
    public_server: str | None = None
    storage_class: str | None = None
    volume_size: str = "1Gi"
    volume_access: VolumeAccess = "ReadWriteOnce"
    registry_credentials: Path | None = None
    start_timeout: float = 300.0
    schedule_timeout: float = 120.0
    address_timeout: float = 120.0
    max_lease: int = 30 * 24 * 3600
    settle: float = 1.0
    stop_timeout: int = 5
    gone_timeout: float = 50.0
    request_timeout: float = 30.0
    requests_per_second: float = 200.0
    name: str = "kubernetes"

    @property
    def scope(self) -> str | None:
        """Where environments are looked for: a namespace, or None for all of them."""
        return self.namespace if self.users is None else None

    def __post_init__(self) -> None:
        if not self.instance:
            raise ValueError("instance may not be empty: it tells our pods from those of other installations")
        if not NAMESPACE.fullmatch(self.namespace):
            raise ValueError(f"namespace {self.namespace!r} is none: lower-case letters, digits and '-', at most 63")
        if self.users is not None and len(self.namespace) > _LONGEST_PREFIX:
            raise ValueError(f"names of users' namespaces begin with it: it may have {_LONGEST_PREFIX} characters")
        if self.public_server is not None and not self.public_server.startswith("https://"):
            raise ValueError(f"public_server {self.public_server!r} is none: it is a URL that begins with https://")
        if self.service not in get_args(ServiceType):
            raise ValueError(f"service {self.service!r} is none of {', '.join(get_args(ServiceType))}")
