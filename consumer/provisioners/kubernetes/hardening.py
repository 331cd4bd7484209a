"""What is taken away from every pod: by itself it meets Pod Security's level *restricted*. No I/O here."""

from typing import Any

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.security import AS_IMAGE, NON_ROOT

_GROUP_OF_VOLUMES = 1000
"""What a program belongs to as well, so that it can write to its volume. Root's own group counts for others too."""


def pod_security(spec: EnvironmentSpec) -> dict[str, Any]:
    """The pod's `securityContext`. Root runs only where the template names it by its number, 0."""
    context: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    group: int | None = _GROUP_OF_VOLUMES
    if spec.security.user not in (AS_IMAGE, NON_ROOT):
        user, _, own = spec.security.user.partition(":")
        context |= {"runAsUser": int(user), "runAsNonRoot": int(user) != 0}
        context |= {"runAsGroup": int(own)} if own else {}
        group = None if int(user) == int(own or 0) == 0 else int(own or user)
    if spec.volume is not None and group is not None:
        context |= {"fsGroup": group, "fsGroupChangePolicy": "OnRootMismatch"}
    return context


def container_security(spec: EnvironmentSpec) -> dict[str, Any]:
    """The container's `securityContext`, with what the template gives back."""
    security = spec.security
    capabilities = {"drop": ["ALL"]} | ({"add": [*security.capabilities]} if security.capabilities else {})
    return {
        "allowPrivilegeEscalation": security.new_privileges,
        "capabilities": capabilities,
        "readOnlyRootFilesystem": security.read_only,
    }
