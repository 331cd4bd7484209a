"""The chart and the manifests on a real API server: it takes all of them, members come up, nothing stays behind."""

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.services import Kubernetes
from tools.manifests import CHART, DEPLOY

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

_OURS = "app.kubernetes.io/instance={}"
_KINDS = (
    "deployments,pods,configmaps,services,serviceaccounts,networkpolicies,poddisruptionbudgets,resourcequotas,roles"
)


@dataclass(frozen=True)
class Release:
    """Moorage in a namespace of its own, with another one for its environments."""

    helm: str
    cluster: Kubernetes
    name: str

    @property
    def environments(self) -> str:
        return f"{self.name}-environments"

    def run(self, verb: str, *options: str) -> None:
        command = [self.helm, verb, self.name, f"--namespace={self.name}", f"--kubeconfig={self.cluster.kubeconfig}"]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=120)  # noqa: S603 - fixed

    def put(self, verb: str, *options: str) -> None:
        self.run(verb, str(CHART), f"--set=environments.namespace={self.environments}", "--wait", *options)

    def ready_members(self) -> int:
        shown = self.cluster.get("deployment", self.name, f"--namespace={self.name}")
        return int(shown["status"].get("readyReplicas", 0))

    def leftovers(self) -> list[str]:
        selector = f"--selector={_OURS.format(self.name)}"
        found = self.cluster.get(_KINDS, "--all-namespaces", selector)["items"]
        return [f"{each['kind']} {each['metadata']['name']}" for each in found]


@pytest.fixture
def release(helm: str, kubernetes: Kubernetes) -> Iterator[Release]:
    name = f"moorage-{uuid.uuid4().hex[:6]}"
    made = Release(helm, kubernetes, name)
    namespace = {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    kubernetes.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})
    try:
        yield made
    finally:
        kubernetes.kubectl("delete", "namespace", name, made.environments, "--ignore-not-found", "--wait=false")


def test_a_release_comes_up_under_the_strictest_rules_is_upgraded_and_goes(release: Release) -> None:
    release.put("install")
    assert release.ready_members() == 2
    release.put("upgrade", "--set=replicas=3", "--set=templates=version: 1")
    assert release.ready_members() == 3
    assert release.leftovers()
    release.run("uninstall", "--wait", "--cascade=foreground")
    assert release.leftovers() == []


def test_its_account_may_do_nothing_outside_of_where_environments_run(release: Release) -> None:
    release.put("install")
    account = f"--as=system:serviceaccount:{release.name}:{release.name}"

    def may(verb: str, resource: str, namespace: str) -> bool:
        kind, _, sub = resource.partition("/")
        ask = ("auth", "can-i", verb, kind, f"--subresource={sub}", f"--namespace={namespace}", account)
        try:
            return release.cluster.kubectl(*ask).strip() == "yes"
        except subprocess.CalledProcessError:
            return False

    assert may("create", "pods", release.environments)
    assert not may("create", "pods", release.name)
    assert not may("create", "pods", "kube-system")
    assert not may("get", "secrets", release.name)
    assert not may("create", "pods/exec", release.environments)
    assert not may("create", "serviceaccounts/token", release.environments)
    assert not may("create", "rolebindings", release.environments)


def test_the_manifests_come_up_without_helm(kubernetes: Kubernetes) -> None:
    folder = str(DEPLOY / "kustomize")
    try:
        kubernetes.kubectl("apply", f"--kustomize={folder}")
        kubernetes.kubectl("--namespace=moorage", "wait", "deployment/moorage", "--for=condition=Available")
    finally:
        kubernetes.kubectl("delete", f"--kustomize={folder}", "--ignore-not-found", "--wait=false")
