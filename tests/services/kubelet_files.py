"""What a real node reads: the script that makes it one, and the settings of its programs."""

import ipaddress
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.services.control_plane import ControlPlane
from tests.services.host_network import HostNetwork
from tests.services.kubebox import program

NODE = "kubelet"
PAUSE_IMAGE = "moorage/pause:test"
"""What holds a pod's namespaces open; it only has to stay."""
PLUGINS = Path("/usr/lib/cni")


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


def write_node(plane: ControlPlane, network: NodeNetwork) -> None:
    """Write all that the node reads."""
    folder = plane.run_dir.path
    for name in ("cni", "sysctl"):
        (folder / name).mkdir()
    (folder / "containerd.toml").write_text(_CONTAINERD.format(folder=folder, pause=PAUSE_IMAGE, plugins=PLUGINS))
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
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/registries"
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
