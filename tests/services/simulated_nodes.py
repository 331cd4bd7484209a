"""Nodes without machines: kwok answers for their kubelets, and says of every pod that it runs and is ready."""

from pathlib import Path
from typing import Any

from tests.services.control_plane import ControlPlane

_STAGES = Path(__file__).with_name("simulated_nodes.yaml")
_NODES = 2
_CAPACITY = {"cpu": "32", "memory": "256Gi", "pods": "1000"}


def simulate_nodes(plane: ControlPlane) -> None:
    """Look after all nodes of a cluster, as kubelets would."""
    plane.launch(
        "kwok",
        f"--kubeconfig={plane.kubeconfig('kwok', 'system:masters')}",
        f"--config={_STAGES}",
        "--manage-all-nodes",
        "--cidr=10.244.0.0/16",
        "--node-ip=127.0.0.1",
        "--node-lease-duration-seconds=40",
    )


def simulated_nodes() -> list[dict[str, Any]]:
    return [_node(f"simulated-{number}") for number in range(1, _NODES + 1)]


def _node(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": _CAPACITY, "allocatable": _CAPACITY},
    }
