"""Who asks a cluster while it is measured, and how often."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer.provisioners.kubernetes.permissions import NEEDED, WELCOME
from tests.services import Kubernetes


@dataclass(frozen=True)
class Account:
    """Who may do what Moorage needs in a namespace, and nothing else."""

    cluster: Kubernetes
    namespace: str
    kubeconfig: Path

    def left(self) -> list[str]:
        """What environments are made of and is still there."""
        kinds = "configmaps,pods,services,secrets,networkpolicies,persistentvolumeclaims"
        found = self.cluster.get(kinds, f"--namespace={self.namespace}")["items"]
        return [f"{each['kind']} {each['metadata']['name']}" for each in found if each["metadata"].get("labels")]

    @contextmanager
    def counting(self) -> Iterator[list[int]]:
        """How many requests the API server got from this account meanwhile; nothing where that is not known."""
        counted: list[int] = []
        if not self.cluster.ours:
            yield counted
            return
        with self.cluster.audit_log.open() as lines:
            lines.seek(0, os.SEEK_END)
            yield counted
            counted.append(len({event["auditID"] for event in map(json.loads, lines) if self._asked(event)}))

    def _asked(self, event: Mapping[str, Any]) -> bool:
        return bool(event["user"]["username"].startswith(f"system:serviceaccount:{self.namespace}:"))


@contextmanager
def account_on(cluster: Kubernetes, folder: Path) -> Iterator[Account]:
    """An account in a namespace of its own that takes hardened pods only. It may delete one by one, as a bare client
    does."""
    rules = [
        {"apiGroups": [rule.group], "resources": [rule.resource], "verbs": [*{*rule.verbs, "delete"}]}
        for rule in NEEDED + WELCOME
    ]
    with cluster.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as namespace:
        yield Account(cluster, namespace, cluster.account(namespace, rules, folder / "kubeconfig"))
