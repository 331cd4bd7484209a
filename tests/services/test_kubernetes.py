"""Kubernetes for tests is the real control plane, started quickly, with pods that become ready on simulated nodes."""

import lzma
import shutil
import stat
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes_asyncio import client, config, watch

from tests.services import Kubernetes, ServiceMissing, kubebox
from tests.services.image import TEST_IMAGE
from tests.services.kubebox import prepare_programs, program
from tests.services.rundir import RunDir
from tests.support.waiting import eventually

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lab"}}
SPEC = {"containers": [{"name": "lab", "image": "moorage/busybox:test", "command": ["sleep", "600"]}]}
READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
READ_NODES = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def our_kubernetes(kubernetes: Kubernetes) -> Kubernetes:
    if not kubernetes.ours:
        pytest.skip("tells of what our own cluster has, and this is somebody else's")
    return kubernetes


@pytest.fixture
async def core(our_kubernetes: Kubernetes) -> AsyncIterator[Any]:
    async with await config.new_client_from_config(str(our_kubernetes.kubeconfig)) as api:
        yield client.CoreV1Api(api)


def test_the_kubeconfig_is_for_nobody_elses_eyes(our_kubernetes: Kubernetes) -> None:
    assert stat.S_IMODE(our_kubernetes.kubeconfig.stat().st_mode) == 0o600


async def test_a_pod_becomes_ready_on_a_simulated_node(core: Any, kubernetes_namespace: str) -> None:
    await core.create_namespaced_pod(kubernetes_namespace, POD | {"spec": SPEC})

    async with watch.Watch() as changes:
        async for change in changes.stream(core.list_namespaced_pod, kubernetes_namespace, timeout_seconds=20):
            pod = change["object"]
            if any(condition.type == "Ready" for condition in pod.status.conditions or []):
                break
    assert pod.status.phase == "Running"
    assert pod.status.pod_ip
    assert pod.spec.node_name.startswith("simulated-")


def test_a_simulated_pod_that_must_not_become_ready_does_not(
    our_kubernetes: Kubernetes, kubernetes_namespace: str
) -> None:
    kubernetes = our_kubernetes
    here = f"--namespace={kubernetes_namespace}"
    run = ["run", here, "--image=x"]
    kubernetes.kubectl(*run, "stuck", "--annotations=moorage.test/ready=false")
    kubernetes.kubectl(*run, "after")
    kubernetes.kubectl("wait", here, "pod/after", "--for=condition=Ready", "--timeout=50s")
    kubernetes.kubectl("wait", here, "pod/stuck", "--for=condition=PodScheduled", "--timeout=50s")
    assert kubernetes.get("pod", "stuck", here)["status"]["phase"] == "Pending"


def test_what_belongs_to_a_deleted_object_is_collected(kubernetes: Kubernetes, kubernetes_namespace: str) -> None:
    def config_map(name: str, **metadata: Any) -> dict[str, Any]:
        metadata |= {"name": name, "namespace": kubernetes_namespace}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}

    here = f"--namespace={kubernetes_namespace}"
    kubernetes.apply(config_map("owner"))
    uid = kubernetes.get("configmap", "owner", here)["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    kubernetes.apply(config_map("owned", ownerReferences=[owner]))

    kubernetes.kubectl("delete", "configmap", "owner", here)
    kubernetes.kubectl("wait", "configmap/owned", here, "--for=delete", "--timeout=50s")


def test_pod_security_and_quotas_are_enforced(kubernetes: Kubernetes) -> None:
    with kubernetes.namespace({"pod-security.kubernetes.io/enforce": "baseline"}) as namespace:
        here = f"--namespace={namespace}"
        with pytest.raises(subprocess.CalledProcessError) as refused:
            kubernetes.kubectl("run", "lab", "--image=x", "--privileged", here)
        assert "violates PodSecurity" in refused.value.stderr

        kubernetes.kubectl("create", "quota", "one", "--hard=pods=1", here)
        kubernetes.kubectl("wait", "quota/one", here, "--for=jsonpath={.status.used.pods}=0", "--timeout=50s")
        kubernetes.kubectl("run", "first", "--image=x", here)
        with pytest.raises(subprocess.CalledProcessError) as refused:
            kubernetes.kubectl("run", "second", "--image=x", here)
        assert "exceeded quota" in refused.value.stderr


def test_an_account_may_do_what_it_was_granted_and_its_requests_are_known(
    our_kubernetes: Kubernetes, kubernetes_namespace: str, tmp_path: Path
) -> None:
    kubernetes = our_kubernetes
    path = tmp_path / "account.kubeconfig"
    account = kubernetes.account(kubernetes_namespace, [READ_PODS], path, everywhere=[READ_NODES])
    assert stat.S_IMODE(account.stat().st_mode) == 0o600

    kubernetes.kubectl("get", "pods", kubeconfig=account)
    kubernetes.kubectl("get", "nodes", kubeconfig=account)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubernetes.kubectl("delete", "pod", "lab", kubeconfig=account)

    assert "Forbidden" in refused.value.stderr
    wanted = {("list", "", "pods"), ("list", "", "nodes"), ("delete", "", "pods")}
    assert kubernetes.requests_of(kubernetes_namespace) >= wanted


def test_what_a_cluster_has_survives_an_outage(our_kubernetes: Kubernetes, kubernetes_namespace: str) -> None:
    if our_kubernetes.run_dir is None:
        pytest.skip("others use this cluster, too")
    here = f"--namespace={kubernetes_namespace}"
    our_kubernetes.kubectl("create", "configmap", "kept", here)
    with our_kubernetes.outage(), pytest.raises(subprocess.CalledProcessError):
        our_kubernetes.kubectl("get", "configmap", "kept", here)
    our_kubernetes.kubectl("get", "configmap", "kept", here)
    run_pod(our_kubernetes, here)


@pytest.mark.kubelet
def test_a_kubelet_runs_pods_that_log_let_in_and_serve(kubernetes_with_kubelet: Kubernetes) -> None:
    cluster = kubernetes_with_kubelet
    with cluster.namespace() as namespace:
        here = f"--namespace={namespace}"
        run_pod(cluster, here)
        cluster.kubectl("expose", "pod", "lab", here, "--type=NodePort", "--port=80")

        assert cluster.kubectl("logs", "lab", here) == "ahoy\n"
        assert cluster.kubectl("exec", "lab", here, "--", "cat", "/www/index.html") == "moorage\n"
        addresses = cluster.get("nodes")["items"][0]["status"]["addresses"]
        address = next(found["address"] for found in addresses if found["type"] == "InternalIP")
        port = cluster.get("service", "lab", here)["spec"]["ports"][0]["nodePort"]
        assert page(address, port) == b"moorage\n"


def run_pod(cluster: Kubernetes, here: str) -> None:
    serve = "echo ahoy; exec httpd -f -p 80 -h /www"
    cluster.kubectl("run", "lab", here, f"--image={TEST_IMAGE}", "--command", "--", "sh", "-c", serve)
    cluster.kubectl("wait", "pod/lab", here, "--for=condition=Ready", "--timeout=50s")


def page(host: str, port: int) -> bytes:
    """What is served there, once the node lets it through: it follows the cluster's changes, and may lag."""
    deadline = time.monotonic() + 40
    while True:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=1) as reply:
                return bytes(reply.read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("runs_pods", "parts"),
    [
        pytest.param(False, {"etcd", "kube-apiserver", "kube-scheduler", "kwok"}, id="simulated nodes"),
        pytest.param(True, {"kubelet", "kube-proxy", "containerd", "httpd"}, marks=pytest.mark.kubelet, id="kubelet"),
    ],
)
def test_our_own_cluster_leaves_nothing(runs_pods: bool, parts: set[str]) -> None:
    settings_before, rules_before = kernel_settings(), rules_of_kubernetes()
    cluster = Kubernetes.start_own(runs_pods=runs_pods)
    assert cluster.run_dir is not None
    try:
        run_pod(cluster, "--namespace=default")
        processes = eventually(lambda: running(cluster.run_dir, parts), what="its parts run") or []
        assert kernel_settings() == settings_before
        assert rules_of_kubernetes() == rules_before
    finally:
        cluster.stop()

    assert not [process for process in processes if process.is_running() and process.status() != "zombie"]
    assert not cluster.run_dir.path.exists()
    mark = cluster.run_dir.path.name[-8:]
    eventually(lambda: mark not in "".join(network()), what="the kernel has taken its links away")
    assert mark not in Path("/proc/self/mounts").read_text()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/*{mark}*"))
    assert rules_of_kubernetes() == rules_before


def running(run_dir: RunDir | None, parts: set[str]) -> list[psutil.Process] | None:
    """All processes of a cluster, once the parts are among them."""
    processes = run_dir.processes() if run_dir is not None else []
    return processes if {process.name() for process in processes} >= parts else None


def network() -> list[str]:
    """The links, routes and filter rules of this machine, as far as there are programs that tell."""
    tables = [["iptables", "-w", "-t", table, "-S"] for table in ("filter", "nat")]
    commands = [["ip", "-oneline", "link"], ["ip", "route"], *tables]
    found = [command for command in commands if shutil.which(command[0])]
    return [subprocess.run(command, capture_output=True, text=True).stdout for command in found]


def rules_of_kubernetes() -> list[str]:
    return [line for said in network() for line in said.splitlines() if "KUBE-" in line]


def kernel_settings() -> dict[str, str]:
    """Those that a kubelet would change for the whole machine."""
    names = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys")
    return {name: path.read_text() for name in names if (path := Path("/proc/sys", name)).exists()}


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without programs, and without a Go to build them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(kubebox, "_BUILT_BEFORE", tmp_path / "kubebox.xz")
    return tmp_path


def pretend_binary(version: str) -> bytes:
    return lzma.compress(f"#!/bin/sh\necho Kubernetes {version}\n".encode())


def test_programs_that_were_built_before_are_unpacked_once(empty_cache: Path) -> None:
    packed = empty_cache / "kubebox.xz"
    packed.write_bytes(pretend_binary(kubebox._version()))
    prepare_programs()
    packed.unlink()

    prepare_programs()

    said = subprocess.run([program("kube-apiserver")], capture_output=True, text=True, check=True).stdout
    assert said == f"Kubernetes {kubebox._version()}\n"


def test_who_is_slower_uses_the_programs_of_who_was_quicker(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_cache / "kubebox.xz").write_bytes(pretend_binary(kubebox._version()))
    rename = Path.rename

    def rename_late(made: Path, folder: Path) -> Path:
        shutil.copytree(made, folder, symlinks=True)
        return rename(made, folder)

    monkeypatch.setattr(Path, "rename", rename_late)

    assert Path(program("kube-apiserver")).exists()


@pytest.mark.parametrize("packed", [b"", b"half of it", pretend_binary("v1.0.0"), lzma.compress(b"\x7fELF")])
def test_programs_of_another_version_or_kind_are_not_used(empty_cache: Path, packed: bytes) -> None:
    (empty_cache / "kubebox.xz").write_bytes(packed)
    with pytest.raises(ServiceMissing, match="install Go"):
        prepare_programs()
    assert [path.name for path in (empty_cache / "moorage").iterdir()] == []


def test_programs_are_taken_from_the_folder_that_kubebuilder_assets_names(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd = empty_cache / "etcd"
    etcd.write_text("#!/bin/sh\n")
    etcd.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(empty_cache))
    assert program("etcd") == str(etcd)
    with pytest.raises(ServiceMissing):
        program("kube-apiserver")
