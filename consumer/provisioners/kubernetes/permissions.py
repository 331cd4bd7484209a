"""What Moorage must be allowed to do in its namespace: all of it, and no more. No I/O here."""

from dataclasses import dataclass

from consumer.catalog.needs import Needs
from consumer.catalog.routes import Gateway, Ingress


@dataclass(frozen=True, slots=True)
class Rule:
    """As RBAC has them."""

    resource: str
    verbs: tuple[str, ...]
    group: str = ""

    def __str__(self) -> str:
        """As it stands in a Role."""
        return f'{{apiGroups: ["{self.group}"], resources: [{self.resource}], verbs: [{", ".join(self.verbs)}]}}'


_PARTS = ("get", "list", "create", "delete")

NEEDED = (
    Rule("configmaps", ("get", "list", "watch", "create", "patch", "delete")),
    Rule("configmaps/finalizers", ("update",)),
    Rule("pods", ("get", "list", "watch", "create", "delete")),
    Rule("pods/log", ("get",)),
    Rule("services", _PARTS),
    Rule("secrets", _PARTS),
    Rule("persistentvolumeclaims", _PARTS),
    Rule("networkpolicies", _PARTS, "networking.k8s.io"),
)
"""Finalizers: some clusters let only who may change an owner's say that it must wait for what belongs to it."""

INGRESSES = Rule("ingresses", _PARTS, "networking.k8s.io")
HTTP_ROUTES = Rule("httproutes", _PARTS, "gateway.networking.k8s.io")

INGRESS_CLASSES = Rule("ingressclasses", ("list",), "networking.k8s.io")
"""Of the cluster, so of a ClusterRole: `moorage doctor` looks whether there are those that templates name."""

WELCOME = (
    Rule("namespaces", ("get",)),
    Rule("events", ("list",)),
    Rule("pods", ("get",), "metrics.k8s.io"),
)
"""What `moorage doctor`, failures and `env top` tell more with."""


def needed_for(needs: Needs) -> tuple[Rule, ...]:
    """What templates want as well as what all of them need."""
    used = {type(route) for _, route in needs.routes}
    return (*NEEDED, *([INGRESSES] if Ingress in used else []), *([HTTP_ROUTES] if Gateway in used else []))
