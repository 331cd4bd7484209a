"""Nodes without machines: kwok answers for their kubelets, and says of every pod that it runs and is ready."""

from pathlib import Path
from typing import Any

from tests.services.control_plane import Addresses, ControlPlane
from tests.services.kubectl import apply
from tests.services.rundir import RunDir

_STAGES = Path(__file__).with_name("simulated_nodes.yaml")
_NODES = 2
_CAPACITY = {"cpu": "32", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"}


def start_with_simulated_nodes(run_dir: RunDir) -> ControlPlane:
    """A control plane on loopback and nodes that get ready. Raises DidNotStart, ServiceMissing."""
    plane = ControlPlane.start(run_dir, Addresses())
    plane.launch(
        "kwok",
        f"--kubeconfig={plane.kubeconfig('kwok', 'system:masters')}",
        f"--config={_STAGES}",
        "--manage-all-nodes",
        "--cidr=10.244.0.0/16",
        "--node-ip=127.0.0.1",
        "--node-lease-duration-seconds=40",
    )
    apply(plane.admin_kubeconfig, *(_node(f"simulated-{number}") for number in range(1, _NODES + 1)))
    return plane


def _node(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": _CAPACITY, "allocatable": _CAPACITY},
    }
