"""What a namespace of Kubernetes is bounded by, as operators write it: `pods=20,requests.memory=8Gi`."""

import re
from collections.abc import Mapping

from consumer.catalog.wording import quoted

Quantities = Mapping[str, str]
"""Quantities by the name of what they bound."""

_EACH = frozenset({"cpu", "memory", "ephemeral-storage"})
_ALL_TOGETHER = frozenset(
    {"pods", "services", "services.loadbalancers", "services.nodeports", "secrets", "configmaps"}
    | {"persistentvolumeclaims", "requests.storage"}
    | {f"{prefix}{name}" for prefix in ("", "requests.", "limits.") for name in _EACH}
)
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?/[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_QUANTITY = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][0-9]+|[KMGTPE]i|[mkMGTPE]|)")


def quota(value: object) -> Quantities:
    """What all of a namespace may come to. Raises ValueError."""
    return _bounds(value, _ALL_TOGETHER)


def limits(value: object) -> Quantities:
    """What a container gets that states no limits. Raises ValueError."""
    return _bounds(value, _EACH)


def _bounds(value: object, known: frozenset[str]) -> Quantities:
    quantities = dict(value) if isinstance(value, Mapping) else _written(str(value))
    for name, quantity in quantities.items():
        if name not in known and not _QUALIFIED.fullmatch(name):
            raise ValueError(f"{quoted(name)} cannot be bounded; use {', '.join(sorted(known))}, or a name with a '/'")
        if not _QUANTITY.fullmatch(quantity):
            raise ValueError(f"{quoted(quantity)} is no quantity for {name}: write it as 20, 500m or 8Gi")
    return quantities


def _written(text: str) -> dict[str, str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if malformed := next((word for word in words if "=" not in word), None):
        raise ValueError(f"{quoted(malformed)} is not of the form name=quantity")
    pairs = [word.split("=", 1) for word in words]
    return {name.strip(): quantity.strip() for name, quantity in pairs}
