"""A user's namespace, and what it is bounded by, as the API takes them. No I/O here."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from consumer.catalog.identity import INSTANCE, MANAGED_BY, USER_ID, USER_NAME, slug
from consumer.provisioners.kubernetes.kinds import LIMIT_RANGE, NETWORK_POLICY, RESOURCE_QUOTA, Kind, Object
from consumer.provisioners.kubernetes.names import label_value
from consumer.provisioners.kubernetes.options import KubernetesOptions, UserNamespaces
from schemas.events import User

USER = "moorage/user-key"
"""Whose namespace it is: a hash, which is the same on the namespace of nobody else."""

_NAME = "moorage"
_RBAC = "rbac.authorization.k8s.io"
_ACCOUNT = "system:serviceaccount:"
_DISK = "ephemeral-storage"
_MODES = ("enforce", "warn", "audit")


def user_key(instance: str, user_id: str) -> str:
    """32 hex digits over instance and user: two installations in one cluster share no user's namespace."""
    parts = (text.encode("utf-8", "surrogatepass") for text in (instance, user_id))
    return hashlib.sha256(b"\xff".join(parts)).hexdigest()[:32]


def namespace_name(prefix: str, instance: str, user_id: str) -> str:
    """`{prefix}-{user}-{hash}`, from the id alone: names of people are sometimes missing from events."""
    return f"{prefix}-{slug(user_id)}-{user_key(instance, user_id)[:10]}"


def user_namespace_of(user: User, options: KubernetesOptions, users: UserNamespaces) -> dict[str, Any]:
    labels = {
        MANAGED_BY: "moorage",
        "app.kubernetes.io/managed-by": "moorage",
        INSTANCE: label_value(options.instance),
        USER_ID: label_value(user.id),
        USER: user_key(options.instance, user.id),
    }
    levels = {f"pod-security.kubernetes.io/{mode}": users.pod_security for mode in _MODES}
    annotations = {INSTANCE: options.instance, USER_ID: user.id, USER_NAME: user.name or user.id}
    name = namespace_name(options.namespace, options.instance, user.id)
    return {"metadata": {"name": name, "labels": labels | levels, "annotations": annotations}}


def is_same_users(namespace: Object, wanted: Object) -> bool:
    """Whether a namespace that has the name was made for the same user, by the same installation."""
    labels: Mapping[str, str] = namespace["metadata"].get("labels") or {}
    return all(labels.get(name) == wanted["metadata"]["labels"][name] for name in (MANAGED_BY, USER))


def lacking_labels(namespace: Object, wanted: Object) -> dict[str, str]:
    """The labels that it should have, and has not or has otherwise."""
    labels: Mapping[str, str] = namespace["metadata"].get("labels") or {}
    return {name: value for name, value in wanted["metadata"]["labels"].items() if labels.get(name) != value}


def bounds_of(namespace: str, users: UserNamespaces) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """What holds for all that runs in it: how much there may be, and that nothing is let in or out by itself."""
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for kind, spec in (
        (RESOURCE_QUOTA, {"hard": dict(users.quota)}),
        (LIMIT_RANGE, {"limits": [{"type": "Container", "default": dict(users.limits)} | _requests(users)]}),
        (NETWORK_POLICY, closed),
    ):
        about = {"name": _NAME, "namespace": namespace, "labels": {MANAGED_BY: "moorage"}}
        yield kind, {"apiVersion": kind.api_version, "kind": kind.name, "metadata": about, "spec": spec}


def _requests(users: UserNamespaces) -> dict[str, Any]:
    """Nodes set aside as much as the limits say, but no disk: few have room for all that their pods may write.

    They do if a quota is to bound what is set aside.
    """
    bounded = {_DISK, f"requests.{_DISK}"} & users.quota.keys()
    return {"defaultRequest": {_DISK: "0"}} if _DISK in users.limits and not bounded else {}


def binding_of(namespace: str, role: str, account: str) -> dict[str, Any]:
    """What lets `account`, the name that the API server knows us by, do what the ClusterRole says, in this namespace.

    Another account or another role is another binding: what a role a binding is for can never be changed.
    """
    subject = {"kind": "User", "name": account, "apiGroup": _RBAC}
    if account.startswith(_ACCOUNT):
        at, name = account.removeprefix(_ACCOUNT).split(":", 1)
        subject = {"kind": "ServiceAccount", "name": name, "namespace": at}
    digest = hashlib.sha256(f"{role}\xff{account}".encode()).hexdigest()[:10]
    return {
        "metadata": {"name": f"{_NAME}-{digest}", "namespace": namespace, "labels": {MANAGED_BY: "moorage"}},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }
