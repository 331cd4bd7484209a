"""A node that runs pods for real: kubelet, kube-proxy and containerd, beside whatever else this machine runs.

It has process, mount and network namespaces to itself, so its filter rules, bridges, mounts and the kernel's settings
that a kubelet changes are nobody else's, and all of it is gone when its first process is killed. A bridge of this
machine leads to it: from here nodes, pods and Services are reached at their own addresses. Pods have no DNS.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.services.control_plane import Addresses, ControlPlane
from tests.services.host_network import HostNetwork
from tests.services.image import TEST_IMAGE, archive, own_busybox, root_filesystem
from tests.services.kubelet_files import NODE, PAUSE_IMAGE, PLUGINS, NodeNetwork, write_node
from tests.services.missing import ServiceMissing
from tests.services.packages import install, need
from tests.services.rundir import RunDir, wait_until_ready

_START_SECONDS = 60


def start_with_kubelet(run_dir: RunDir) -> ControlPlane:
    """A control plane and one node that gets ready. Raises DidNotStart, ServiceMissing."""
    network = NodeNetwork.of(HostNetwork.claim(run_dir.path, filter_rules=False))
    plane = ControlPlane.start(run_dir, Addresses(network.gateway, network.services))
    write_node(plane, network)
    _make_cgroups(run_dir.path.name)
    namespaces = ["--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]
    log = run_dir.path / "kubelet.log"
    node = run_dir.launch(["unshare", *namespaces, "sh", f"{run_dir.path}/node.sh"], log)
    wait_until_ready(node, lambda: _has_network_of_its_own(node.pid), seconds=_START_SECONDS, log=log)
    _connect(network, node.pid, run_dir.path.name)
    wait_until_ready(node, lambda: plane.has(f"/api/v1/nodes/{NODE}"), seconds=_START_SECONDS, log=log)
    files = root_filesystem(own_busybox())
    load_image(run_dir.path, archive(TEST_IMAGE, files))
    load_image(run_dir.path, archive(PAUSE_IMAGE, files, ["sleep", "2147483647"]))
    return plane


def prepare_kubelet() -> None:
    """Install what a node needs. Raises ServiceMissing where that cannot be."""
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        raise ServiceMissing("only root on Linux can run a Kubernetes node")
    if "/usr/sbin" not in os.environ["PATH"].split(os.pathsep):  # where runc and ip are
        os.environ["PATH"] += ":/usr/sbin:/sbin"
    need({"containerd": "containerd", "runc": "runc", "catatonit": "catatonit", "busybox": "busybox-static"})
    need({"iptables": "iptables", "ip": "iproute2"})
    if not (PLUGINS / "bridge").exists():
        install("containernetworking-plugins")


def load_image(folder: Path, image: bytes) -> None:
    """Give an image, as `docker save` writes it, to the node of this folder, which need not pull it then."""
    _images(folder, "k8s.io", "import", "-", stdin=image)


def push_image(folder: Path, image: bytes, name: str, login: str) -> None:
    """Give such an image to the registry in its name, which has no TLS. The node of this folder does not keep it."""
    _images(folder, "pushing", "import", "-", stdin=image)
    _images(folder, "pushing", "push", "--plain-http", f"--user={login}", name)
    _images(folder, "pushing", "rm", "--sync", name)


def do_without_tls(folder: Path, registry: str) -> None:
    """Have the node of this folder pull from a registry (host:port) that has none."""
    at = folder / "registries" / registry
    at.mkdir(parents=True, exist_ok=True)
    (at / "hosts.toml").write_text(f'server = "http://{registry}"\n[host."http://{registry}"]\n')


def _images(folder: Path, namespace: str, *arguments: str, stdin: bytes = b"") -> None:
    command = ["ctr", f"--address={folder}/containerd.sock", f"--namespace={namespace}", "images", *arguments]
    subprocess.run(command, input=stdin, capture_output=True, check=True)


def _make_cgroups(name: str) -> None:
    """The one below which the kubelet makes those of pods: it is named after our folder, by which they are ours."""
    root = Path("/sys/fs/cgroup")
    hierarchies = (
        [root] if (root / "cgroup.controllers").exists() else [path for path in root.iterdir() if path.is_dir()]
    )
    for hierarchy in hierarchies:
        (hierarchy / name).mkdir(exist_ok=True)


def _has_network_of_its_own(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    except OSError:  # it has exited
        return False


def _connect(network: NodeNetwork, pid: int, name: str) -> None:
    """Lay a cable from our bridge to the node, which waits for its end. It goes when either end does."""
    ours = f"mrgn{name[-8:]}"
    commands = [
        f"ip link add {ours} type veth peer name eth0 netns {pid}",
        f"ip link set {ours} master {network.bridge} up",
        f"ip route add {network.beyond} via {network.node} dev {network.bridge}",
    ]
    for command in commands:
        done = subprocess.run(command.split(), capture_output=True, text=True)
        if done.returncode:
            raise ServiceMissing(f"`{command}` failed: {done.stderr.strip()}")
