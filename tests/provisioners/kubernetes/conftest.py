"""A namespace of its own for each module, in which only hardened pods are let in, and a door before the API server."""

import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import had
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tests.provisioners.kubernetes.proxy import ApiProxy
from tests.services import Kubernetes
from tests.services.definitions import HTTP_ROUTES, define

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def namespace(kubernetes: Kubernetes) -> Iterator[str]:
    with kubernetes.namespace(RESTRICTED) as name:
        yield name


@pytest.fixture(scope="session")
def gateway_api(kubernetes: Kubernetes) -> None:
    """The cluster knows HTTPRoutes, though no controller does anything with them."""
    had(lambda: define(kubernetes, HTTP_ROUTES))


@pytest.fixture
async def harness(kubernetes: Kubernetes, namespace: str) -> AsyncIterator[KubernetesHarness]:
    harness = KubernetesHarness(str(kubernetes.kubeconfig), namespace)
    await harness.connect()
    yield harness
    assert await harness.clean_up() == []


@pytest.fixture
async def nodes(kubernetes_with_kubelet: Kubernetes) -> AsyncIterator[KubernetesHarness]:
    """The same where a node runs pods."""
    with kubernetes_with_kubelet.namespace(RESTRICTED) as namespace:
        nodes = KubernetesHarness(str(kubernetes_with_kubelet.kubeconfig), namespace)
        nodes.image = "moorage/busybox:test"
        await nodes.connect()
        yield nodes
        assert await nodes.clean_up() == []


@pytest.fixture
async def proxy(harness: KubernetesHarness, tmp_path: Path) -> AsyncIterator[ApiProxy]:
    async with ApiProxy(harness.kubeconfig, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def free_port() -> int:
    """A port that a cluster gives to services, and that hardly anybody has."""
    return random.randint(30_000, 32_767)  # noqa: S311 - any will do
