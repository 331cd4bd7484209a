"""A login for the user of one environment, that leads to its pod and to nothing else. No I/O here.

Whoever has it is a service account of the environment's own, which the pod knows nothing of. It is gone with the
anchor, and the tokens that were given out for it are worth nothing from then on.
"""

import base64
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

import yaml

from consumer.provisioners.kubernetes.kinds import ROLE, SERVICE_ACCOUNT, Object, name_of, namespace_of
from consumer.provisioners.kubernetes.manifests import label_of, owner_of
from consumer.provisioners.kubernetes.names import facts_of
from consumer.provisioners.labels import moment_of
from schemas.outbound import SecretKey

RENEW_AT = "moorage/kubeconfig-renew-at"
"""An annotation of the anchor, from when there is a kubeconfig: when it has to be renewed."""

_KEY = "kubeconfig"
_SHORTEST, _LONGEST = 600, 7 * 24 * 3600
"""Seconds for which a token holds: the API gives none for less, and one that somebody has copied shall run out."""

_EARLIER = 2 / 3
"""The share of its time after which a token is renewed that ends before its reservation."""

_ALLOWED = {"pods": ["get"], "pods/log": ["get"], "pods/exec": ["create", "get"], "pods/portforward": ["create", "get"]}
"""What kubectl needs for logs, exec and port-forward: depending on its release it creates or gets the last two."""


def about_user(anchor: Object) -> dict[str, Any]:
    """The metadata of all that belongs to the login."""
    about = anchor["metadata"]
    return {
        "name": f"{name_of(anchor)}-kubeconfig",
        "namespace": namespace_of(anchor),
        "labels": about["labels"] | label_of(anchor),
        "annotations": {name: value for name, value in about["annotations"].items() if name != RENEW_AT},
        "ownerReferences": [owner_of(anchor)],
    }


def account_of(anchor: Object) -> dict[str, Any]:
    return {"metadata": about_user(anchor), "automountServiceAccountToken": False}


def role_of(anchor: Object) -> dict[str, Any]:
    rules = [
        {"apiGroups": [""], "resources": [resource], "resourceNames": [name_of(anchor)], "verbs": verbs}
        for resource, verbs in _ALLOWED.items()
    ]
    return {"metadata": about_user(anchor), "rules": rules}


def binding_of(anchor: Object) -> dict[str, Any]:
    about = about_user(anchor)
    return {
        "metadata": about,
        "roleRef": {"apiGroup": ROLE.group, "kind": ROLE.name, "name": about["name"]},
        "subjects": [{"kind": SERVICE_ACCOUNT.name, "name": about["name"], "namespace": namespace_of(anchor)}],
    }


def kubeconfig_secret_of(anchor: Object, kubeconfig: str) -> dict[str, Any]:
    return {"metadata": about_user(anchor), "stringData": {_KEY: kubeconfig}}


def kubeconfig_in(secret: Object) -> str:
    return base64.b64decode(secret["data"][_KEY]).decode()


def kubeconfig_of(anchor: Object, *, server: str, authority: bytes | None, token: str) -> str:
    """`authority` are the certificates by which the server is known; None for those that every machine trusts.

    All is called as the environment is, so that several can be put together.
    """
    name = name_of(anchor)
    known = {} if authority is None else {"certificate-authority-data": base64.b64encode(authority).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server} | known}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace_of(anchor)}}],
        "current-context": name,
    }
    return yaml.safe_dump(document, sort_keys=False)


def token_seconds(until: datetime, now: datetime) -> int:
    """For how long a token should hold whose reservation ends then."""
    return min(max(ceil((until - now).total_seconds()), _SHORTEST), _LONGEST)


def renewal(until: datetime, now: datetime, seconds: int) -> datetime:
    """When a token has to be renewed that holds for so many seconds from now on."""
    lasts = now + timedelta(seconds=seconds) >= until
    return now + timedelta(seconds=seconds if lasts else _EARLIER * seconds)


def renew_at(anchor: Object) -> datetime | None:
    """When its kubeconfig has to be renewed; None where there is none."""
    noted = facts_of(anchor).get(RENEW_AT)
    return None if noted is None else moment_of(noted) or datetime.fromtimestamp(0, UTC)


def place_of(anchor: Object) -> SecretKey | None:
    """Where its kubeconfig lies, if it has one."""
    if RENEW_AT not in facts_of(anchor):
        return None
    return SecretKey(namespace=namespace_of(anchor), secret=about_user(anchor)["name"], key=_KEY)
