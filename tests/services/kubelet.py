"""A node that runs pods for real: kubelet, kube-proxy and containerd, beside whatever else this machine runs.

It has process, mount and network namespaces to itself, so its filter rules, bridges, mounts and the kernel's settings
that a kubelet changes are nobody else's, and all of it is gone when its first process is killed. A bridge of this
machine leads to it: from here nodes, pods and Services are reached at their own addresses. Pods have no DNS.
"""

import ipaddress
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.services.control_plane import Addresses, ControlPlane
from tests.services.host_network import HostNetwork
from tests.services.image import TEST_IMAGE, archive, own_busybox, root_filesystem
from tests.services.kubebox import program
from tests.services.missing import ServiceMissing
from tests.services.packages import install, need
from tests.services.rundir import RunDir, wait_until_ready

NODE = "kubelet"
_PLUGINS = Path("/usr/lib/cni")
_PAUSE = "moorage/pause:test"
_START_SECONDS = 60


@dataclass(frozen=True)
class NodeNetwork:
    """The node's share of the range that its bridge has."""

    bridge: str
    gateway: str
    """This machine's address, where the API server listens."""
    node: str
    pods: str
    services: str
    beyond: str
    """What is reached by way of the node: its pods and Services."""

    @classmethod
    def of(cls, network: HostNetwork) -> "NodeNetwork":
        own, pool = ipaddress.ip_network(network.own), ipaddress.ip_network(network.pool)
        services, pods = pool.subnets()
        return cls(network.bridge, str(own[1]), str(own[2]), str(pods), str(services), network.pool)


def start_with_kubelet(run_dir: RunDir) -> ControlPlane:
    """A control plane and one node that gets ready. Raises DidNotStart, ServiceMissing."""
    network = NodeNetwork.of(HostNetwork.claim(run_dir.path, filter_rules=False))
    plane = ControlPlane.start(run_dir, Addresses(network.gateway, network.services))
    _write_node(plane, network)
    _make_cgroups(run_dir.path.name)
    namespaces = ["--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]
    log = run_dir.path / "kubelet.log"
    node = run_dir.launch(["unshare", *namespaces, "sh", f"{run_dir.path}/node.sh"], log)
    wait_until_ready(node, lambda: _has_network_of_its_own(node.pid), seconds=_START_SECONDS, log=log)
    _connect(network, node.pid, run_dir.path.name)
    wait_until_ready(node, lambda: plane.has(f"/api/v1/nodes/{NODE}"), seconds=_START_SECONDS, log=log)
    files = root_filesystem(own_busybox())
    load_image(run_dir.path, archive(TEST_IMAGE, files))
    load_image(run_dir.path, archive(_PAUSE, files, ["sleep", "2147483647"]))
    return plane


def prepare_kubelet() -> None:
    """Install what a node needs. Raises ServiceMissing where that cannot be."""
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        raise ServiceMissing("only root on Linux can run a Kubernetes node")
    if "/usr/sbin" not in os.environ["PATH"].split(os.pathsep):  # where runc and ip are
        os.environ["PATH"] += ":/usr/sbin:/sbin"
    need({"containerd": "containerd", "runc": "runc", "catatonit": "catatonit", "busybox": "busybox-static"})
    need({"iptables": "iptables", "ip": "iproute2"})
    if not (_PLUGINS / "bridge").exists():
        install("containernetworking-plugins")


def load_image(folder: Path, image: bytes) -> None:
    """Give an image, as `docker save` writes it, to the node of this folder, which has no registry to pull from."""
    command = ["ctr", f"--address={folder}/containerd.sock", "--namespace=k8s.io", "images", "import", "-"]
    subprocess.run(command, input=image, capture_output=True, check=True)


def _write_node(plane: ControlPlane, network: NodeNetwork) -> None:
    folder = plane.run_dir.path
    for name in ("cni", "sysctl"):
        (folder / name).mkdir()
    (folder / "containerd.toml").write_text(_CONTAINERD.format(folder=folder, pause=_PAUSE, plugins=_PLUGINS))
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(_pod_network(folder, network.pods)))
    (folder / "resolv.conf").write_text("")
    kubelet = plane.kubeconfig(f"system:node:{NODE}", "system:nodes")
    (folder / "kubelet.yaml").write_text(_KUBELET.format(folder=folder, ca=plane.pki.ca, cgroup=folder.name))
    proxy = plane.kubeconfig("system:kube-proxy")
    (folder / "kube-proxy.yaml").write_text(_PROXY.format(kubeconfig=proxy, pods=network.pods, node=NODE))
    script = "\n".join(_SCRIPT).format(
        folder=shlex.quote(str(folder)),
        network=network,
        kubeconfig=kubelet,
        kubelet=program("kubelet"),
        proxy=program("kube-proxy"),
        node=NODE,
    )
    (folder / "node.sh").write_text(script)


def _pod_network(folder: Path, subnet: str) -> dict[str, object]:
    addresses = {"type": "host-local", "dataDir": f"{folder}/addresses", "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": True, "hairpinMode": True}
    plugins = [
        bridge | {"ipam": addresses | {"ranges": [[{"subnet": subnet}]]}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}


def _make_cgroups(name: str) -> None:
    """The one below which the kubelet makes those of pods: it is named after our folder, by which they are ours."""
    root = Path("/sys/fs/cgroup")
    hierarchies = (
        [root] if (root / "cgroup.controllers").exists() else [path for path in root.iterdir() if path.is_dir()]
    )
    for hierarchy in hierarchies:
        (hierarchy / name).mkdir(exist_ok=True)


def _has_network_of_its_own(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


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


_SCRIPT = (
    "set -eu",
    "until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done",
    "for hidden in /run /var/log /var/lib; do mount -t tmpfs tmpfs $hidden; done",
    # What a kubelet sets in the kernel is the whole machine's. This one sets copies.
    "cd {folder}/sysctl",
    "for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys \\",
    "  kernel/keys/root_maxbytes; do",
    '  mkdir -p "$(dirname $name)"',
    "  cat /proc/sys/$name >$name",
    "  mount --bind $name /proc/sys/$name",
    "done",
    "cd {folder}",
    "ip link set lo up",
    "ip address add {network.node}/24 dev eth0",
    "ip link set eth0 up",
    "ip route add default via {network.gateway}",
    "echo 1 >/proc/sys/net/ipv4/ip_forward",
    "containerd --config {folder}/containerd.toml >containerd.log 2>&1 &",
    "{proxy} --config={folder}/kube-proxy.yaml >kube-proxy.log 2>&1 &",
    "until ctr --address={folder}/containerd.sock version >/dev/null 2>&1; do sleep 0.05; done",
    "exec catatonit -- {kubelet} --kubeconfig={kubeconfig} --config={folder}/kubelet.yaml \\",
    "  --root-dir={folder}/kubelet --cert-dir={folder}/pki --hostname-override={node} --node-ip={network.node}",
    "",
)
_CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
"""
_KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {ca}}}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
containerRuntimeEndpoint: unix://{folder}/containerd.sock
eventRecordQPS: 0
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
podLogsDir: {folder}/pod-logs
resolvConf: {folder}/resolv.conf
serializeImagePulls: false
volumePluginDir: {folder}/volume-plugins
"""
_PROXY = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {{kubeconfig: {kubeconfig}}}
clusterCIDR: {pods}
hostnameOverride: {node}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"""
