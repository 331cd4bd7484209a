"""Service accounts with rules of RBAC, and kubeconfigs of theirs."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.services.kubectl import apply, create, kubectl
from tests.services.kubernetes_pki import write_kubeconfig

Rule = Mapping[str, Sequence[str]]
"""Of RBAC: apiGroups, resources, verbs, perhaps resourceNames."""

_RBAC = "rbac.authorization.k8s.io"
_SECONDS = 30


def make_account(
    admin: Path, namespace: str, rules: Sequence[Rule], everywhere: Sequence[Rule], kubeconfig: Path
) -> Path:
    """A new service account that may do what the rules say, of which the kubeconfig is written."""
    name = f"account-{uuid.uuid4().hex[:10]}"
    account = {"name": name, "namespace": namespace}
    apply(
        admin,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        *(_grant("Role", account, account, rules) if rules else []),
        *(_grant("ClusterRole", account, {"name": f"{namespace}-{name}"}, everywhere) if everywhere else []),
    )
    token = kubectl(admin, "create", "token", name, f"--namespace={namespace}", "--duration=6h").strip()
    seen = json.loads(kubectl(admin, "config", "view", "--raw", "--minify", "--flatten", "--output=json"))
    user = f"system:serviceaccount:{namespace}:{name}"
    _wait_until_allowed(admin, user, rules, namespace)
    _wait_until_allowed(admin, user, everywhere)
    return write_kubeconfig(kubeconfig, seen["clusters"][0]["cluster"], {"token": token}, namespace)


def _grant(
    kind: str, account: Mapping[str, str], metadata: Mapping[str, str], rules: Sequence[Rule]
) -> list[dict[str, Any]]:
    """A role (`kind`: Role or ClusterRole) with these rules, and its binding to the account."""
    role = {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": [dict(rule) for rule in rules]}
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": metadata["name"]},
        "subjects": [{"kind": "ServiceAccount", **account}],
    }
    return [role, binding]


def _wait_until_allowed(admin: Path, user: str, rules: Sequence[Rule], namespace: str = "") -> None:
    """Roles come into force some moments after they were made, all of one role's rules at once."""
    deadline = time.monotonic() + _SECONDS
    while rules and not _allowed(admin, user, rules[0], namespace):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{user} is not let do what it was granted: {rules[0]}")


def _allowed(admin: Path, user: str, rule: Rule, namespace: str) -> bool:
    resource, _, subresource = rule["resources"][0].partition("/")
    asked = {
        "namespace": namespace,
        "verb": rule["verbs"][0],
        "group": rule["apiGroups"][0],
        "resource": resource,
        "subresource": subresource,
        "name": next(iter(rule.get("resourceNames", [])), ""),
    }
    spec = {"user": user, "resourceAttributes": asked}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    return bool(create(admin, review)["status"]["allowed"])
