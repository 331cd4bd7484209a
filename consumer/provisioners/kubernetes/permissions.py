"""What Moorage must be allowed to do in its namespace: all of it, and no more. No I/O here."""

from dataclasses import dataclass


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

WELCOME = (
    Rule("namespaces", ("get",)),
    Rule("events", ("list",)),
    Rule("pods", ("get",), "metrics.k8s.io"),
)
"""What `moorage doctor`, failures and `env top` tell more with."""
