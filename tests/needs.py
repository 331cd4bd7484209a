"""Which services a test needs, as its marks and fixtures tell."""

import pytest

_SERVICE_OF_FIXTURE = {
    "kafka": "kafka",
    "start_kafka": "kafka",
    "own_kafka": "kafka",
    "docker_engine": "docker",
    "own_engine": "docker",
    "podman_engine": "podman",
    "rootless_podman": "podman",
    "registry": "registry",
    "private_registry": "registry",
    "kubernetes": "kubernetes",
    "kubernetes_namespace": "kubernetes",
    "kubernetes_with_kubelet": "kubelet",
    "helm": "helm",
    "gateway_api": "gateway-api",
    "operators": "operators",
}
_MARKS = ("docker", "podman", "kubernetes", "kubelet")
"""Of tests that ask for fixtures by parameter."""


def services_of(item: pytest.Item) -> set[str]:
    names: list[str] = getattr(item, "fixturenames", [])
    marked = {mark for mark in _MARKS if item.get_closest_marker(mark)}
    return marked | {_SERVICE_OF_FIXTURE[name] for name in names if name in _SERVICE_OF_FIXTURE}
