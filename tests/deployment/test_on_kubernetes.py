"""The chart and the manifests on a real API server: it takes all of them, members come up, only users' things stay."""

import base64
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from consumer.catalog.environment import Kubernetes as Wishes
from consumer.catalog.needs import Needs
from consumer.handling.ports import Level
from consumer.provisioners.kubernetes import KubernetesProvisioner, UserNamespaces
from tests.conftest import had
from tests.provisioners.harness import ALICE, ignore
from tests.provisioners.kubernetes.users import UsersHarness
from tests.services import Kubernetes
from tests.services.definitions import SCALED_OBJECTS, SERVICE_MONITORS, define
from tests.services.kubernetes_pki import write_kubeconfig
from tools.manifests import CHART, DEPLOY, rendered

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

_OURS = "app.kubernetes.io/instance={}"
_KINDS = (
    "namespaces,deployments,pods,configmaps,services,serviceaccounts,networkpolicies,poddisruptionbudgets,"
    "resourcequotas,limitranges,roles,rolebindings"
)
_EVERYTHING = (
    "environments.ingress=true",
    "environments.gateway=true",
    "environments.userKubeconfigs=true",
    "image.pullSecrets[0]=login",
    "keda.enabled=true",
    "keda.authentication=kafka-login",
    "priorityClassName=system-cluster-critical",
    "secretFiles=files",
    "secretSettings=settings",
    "serviceMonitor.enabled=true",
    "serviceMonitor.labels.release=prometheus",
    "templates=version: 1",
    "tolerations[0].operator=Exists",
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

    @property
    def elsewhere(self) -> str:
        return f"{self.name}-elsewhere"

    def run(self, verb: str, *options: str) -> str:
        """What Helm says."""
        command = [self.helm, verb, self.name, f"--namespace={self.name}", f"--kubeconfig={self.cluster.kubeconfig}"]
        done = subprocess.run([*command, *options], check=True, capture_output=True, text=True, timeout=120)  # noqa: S603
        return done.stdout

    def put(self, verb: str, *options: str) -> str:
        return self.run(verb, str(CHART), f"--set=environments.namespace={self.environments}", "--wait", *options)

    def ready_members(self) -> int:
        shown = self.cluster.get("deployment", self.name, f"--namespace={self.name}")
        return int(shown["status"].get("readyReplicas", 0))

    def kubeconfig(self, to: Path) -> Path:
        """That of a member."""
        cluster = self.cluster.get("configmap", "kube-root-ca.crt", f"--namespace={self.name}")
        server = yaml.safe_load(self.cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        authority = base64.b64encode(cluster["data"]["ca.crt"].encode()).decode()
        token = self.cluster.kubectl("create", "token", self.name, f"--namespace={self.name}").strip()
        return write_kubeconfig(to, {"server": server, "certificate-authority-data": authority}, {"token": token})

    def refusal(self, *command: str) -> str:
        """What the cluster says when a member tries this, soon after the release was installed at the latest."""
        account = f"--as=system:serviceaccount:{self.name}:{self.name}"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                self.cluster.kubectl(*command, account, "--dry-run=server")
            except subprocess.CalledProcessError as error:
                return str(error.stderr)
        raise TimeoutError(f"it is let do {command}")

    def leftovers(self) -> list[str]:
        selector = f"--selector={_OURS.format(self.name)}"
        found = self.cluster.get(_KINDS, "--all-namespaces", selector)["items"]
        return [f"{each['kind']} {each['metadata']['name']}" for each in found]

    def has_environments(self) -> bool:
        """Whether their namespace is there, and not on its way out."""
        return "deletionTimestamp" not in self.cluster.get("namespace", self.environments)["metadata"]


@pytest.fixture
def release(helm: str, kubernetes: Kubernetes) -> Iterator[Release]:
    name = f"moorage-{uuid.uuid4().hex[:6]}"
    made = Release(helm, kubernetes, name)
    namespace = {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    kubernetes.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})
    try:
        yield made
    finally:
        kubernetes.kubectl(
            "delete", "namespace", name, made.environments, made.elsewhere, "--ignore-not-found", "--wait=false"
        )


def test_a_release_comes_up_under_the_strictest_rules_is_upgraded_goes_and_comes_back(release: Release) -> None:
    assert "WARNING: no reservation will get an environment." in release.put("install")
    assert release.ready_members() == 2
    assert "WARNING" not in release.put("upgrade", "--set=replicas=3", "--set=templates=version: 1")
    assert release.ready_members() == 3
    assert len(release.leftovers()) > 1
    release.run("uninstall", "--wait", "--cascade=foreground")
    assert release.leftovers() == [f"Namespace {release.environments}"]
    assert release.has_environments()
    assert "WARNING" not in release.put("install", "--set=settings.DEFAULT_IMAGE=nginxinc/nginx-unprivileged:stable")
    assert release.ready_members() == 2


def test_an_upgrade_takes_no_namespace_with_what_users_have(release: Release) -> None:
    release.put("install")
    release.put("upgrade", f"--set=environments.namespace={release.elsewhere}")
    assert release.has_environments()
    release.put("upgrade")
    release.put("upgrade", "--set=environments.create=false")
    assert release.has_environments()


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


async def test_with_a_namespace_for_each_user_it_works_by_the_charts_rules_and_in_no_other(
    release: Release, tmp_path: Path
) -> None:
    release.put("install", "--set=environments.perUser=true", "--set=environments.userKubeconfigs=true")
    role = f"{release.name}-{release.name}-environments"
    harness = UsersHarness(str(release.kubeconfig(tmp_path / "kubeconfig")))
    harness.prefix = release.environments
    users = harness.namespace_of(ALICE.id)
    provisioner = KubernetesProvisioner(harness.options(harness.instance, users=UserNamespaces(role=role)))
    spec, needs = harness.spec(kubernetes=Wishes(kubeconfig=True)), Needs(kubeconfigs=frozenset({"web"}))
    try:
        assert [each for each in await provisioner.diagnose(needs) if each.level is Level.ERROR] == []
        made = await provisioner.ensure(spec, ignore)
        assert await provisioner.list() == [made]
        assert f"namespace: {users}" in (await provisioner.kubeconfig(spec.key) or "")
        assert await provisioner.extend(spec.key, spec.expires_at + timedelta(hours=1)) is True

        inside, roles = f"--namespace={users}", f"--role={made.name}-kubeconfig"
        for who in ("--user=mallory", f"--serviceaccount={release.environments}:x"):
            assert "nobody in but itself" in release.refusal("create", "rolebinding", "x", roles, who, inside)
        unlabelled = release.refusal("create", "namespace", f"{release.environments}-x")
        assert "no namespaces without Pod Security" in unlabelled
        off = ("pod-security.kubernetes.io/enforce=privileged", "--overwrite")
        assert "no namespaces without Pod Security" in release.refusal("label", "namespace", users, *off)
        assert await provisioner.remove(spec.key) is True
        await provisioner.close()

        me, only = f"--serviceaccount={release.name}:{release.name}", "names begin with"
        bind = ("create", "rolebinding", "x", f"--clusterrole={role}")
        assert only in release.refusal("create", "namespace", f"{release.environments}x")
        assert only in release.refusal("label", "namespace", "kube-system", "x=y")
        assert only in release.refusal(*bind, me, "--namespace=kube-system")
        assert "nobody in but itself" in release.refusal(*bind, "--serviceaccount=x:y", f"--namespace={users}")
        greedy = ("--clusterrole=admin", me, f"--namespace={users}")
        assert "attempting to grant" in release.refusal(*bind[:3], *greedy)
    finally:
        release.run("uninstall")
        release.cluster.kubectl("delete", "namespace", users, "--ignore-not-found", "--wait=false")


def test_the_manifests_come_up_without_helm(kubernetes: Kubernetes) -> None:
    folder = str(DEPLOY / "kustomize")
    try:
        kubernetes.kubectl("apply", f"--kustomize={folder}")
        kubernetes.kubectl(
            "--namespace=moorage", "wait", "deployment/moorage", "--for=condition=Available", "--timeout=100s"
        )
    finally:
        kubernetes.kubectl("delete", f"--kustomize={folder}", "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="session")
def operators(kubernetes: Kubernetes) -> None:
    """The cluster knows what Prometheus' operator and KEDA are told by."""
    had(lambda: define(kubernetes, SERVICE_MONITORS, SCALED_OBJECTS))


@pytest.mark.parametrize("mode", [(), ("environments.perUser=true",)], ids=["shared", "per user"])
@pytest.mark.parametrize("options", [(), _EVERYTHING], ids=["as it comes", "with everything"])
def test_a_cluster_takes_what_the_chart_comes_to(
    helm: str, kubernetes: Kubernetes, operators: None, mode: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """A dry run of the server: it checks all, misspelt fields too, and keeps nothing."""
    with kubernetes.namespace() as namespace:
        values = (f"environments.namespace={namespace}", "environments.create=false", *mode)
        wished = [f"--set={each}" for each in (*values, *options)]
        shown = rendered(helm, [f"--namespace={namespace}", "--kube-version=1.33", *wished])
        strictly = ("--dry-run=server", "--validate=strict")
        taken = kubernetes.kubectl("apply", *strictly, "--filename=-", "--output=name", stdin=shown)
        assert len(taken.split()) == len([each for each in yaml.safe_load_all(shown) if each])
