"""A node that pulls from a private registry: with the login that Moorage gives it, a wrong one, and none."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from consumer.catalog.environment import EnvironmentSpec, Readiness
from consumer.catalog.security import Security
from consumer.handling.errors import Permanent
from consumer.handling.ports import Status
from tests.provisioners.harness import WEB_PORT, fetch, ignore, until
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tests.provisioners.registry_proxy import RegistryProxy
from tests.services import Kubernetes, Registry
from tests.services.image import archive, own_busybox, root_filesystem
from tests.services.registry import PASSWORD, USER, write_login

pytestmark = [pytest.mark.kubelet, pytest.mark.timeout(120)]

MANIFEST, BLOB = r"/v2/.*/manifests/", r"GET /v2/.*/blobs/"


@pytest.fixture
async def front(nodes: KubernetesHarness, private_registry: Registry) -> AsyncIterator[RegistryProxy]:
    """The private registry, where the node reaches it: beside the API server."""
    host = urlsplit(nodes.api.configuration.host).hostname
    assert host is not None
    async with RegistryProxy(private_registry.address, host) as front:
        yield front


@pytest.fixture
def spec(
    nodes: KubernetesHarness, kubernetes_with_kubelet: Kubernetes, private_registry: Registry, front: RegistryProxy
) -> EnvironmentSpec:
    """Of an image that nobody but the registry has."""
    name = f"{nodes.instance}:1"
    pushed = f"{private_registry.address}/{name}"
    image = archive(pushed, root_filesystem(own_busybox(), {"www/of": name.encode()}))
    kubernetes_with_kubelet.push(image, pushed, f"{USER}:{PASSWORD}")
    kubernetes_with_kubelet.do_without_tls(front.address)
    return nodes.spec(
        image=f"{front.address}/{name}",
        command=("httpd", "-f", "-p", str(WEB_PORT), "-h", "/www"),
        security=Security(user="1000:1000"),
        ready=Readiness(port=WEB_PORT),
    )


async def test_with_a_login_an_image_is_pulled_and_runs(
    nodes: KubernetesHarness, front: RegistryProxy, spec: EnvironmentSpec, tmp_path: Path
) -> None:
    credentials = write_login(tmp_path / "config.json", front.address)

    made = await nodes.provisioner_with(stop_timeout=1, registry_credentials=credentials).ensure(spec, ignore)

    assert made.status is Status.RUNNING
    assert await fetch(f"{made.access.url}/of") == f"{nodes.instance}:1"
    assert front.count(BLOB) == 2


async def test_a_node_that_learns_the_login_late_gets_to_pull_with_it(
    nodes: KubernetesHarness, front: RegistryProxy, spec: EnvironmentSpec, tmp_path: Path
) -> None:
    credentials = write_login(tmp_path / "config.json", front.address)
    provisioner: Any = nodes.provisioner_with(stop_timeout=1, registry_credentials=credentials)
    create, late = provisioner._client.create, []

    async def without_login(kind: Any, body: Any) -> Any:
        if body["metadata"]["name"] != f"{spec.name}-pull":
            return await create(kind, body)
        late.append((kind, body))
        return body | {"metadata": body["metadata"] | {"uid": "late"}}

    provisioner._client.create = without_login
    ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
    await until(lambda: ensuring.done() or front.count(MANIFEST) > 0, within=30)
    assert not ensuring.done()
    await create(*late[0])

    assert (await ensuring).status is Status.RUNNING


@pytest.mark.parametrize(
    ("password", "tells"), [("battery staple", "does not accept the service's login"), (None, "wants a login")]
)
async def test_without_the_right_one_it_is_told_and_nothing_stays(
    nodes: KubernetesHarness, front: RegistryProxy, spec: EnvironmentSpec, tmp_path: Path, password: str, tells: str
) -> None:
    options: dict[str, Any] = {"stop_timeout": 1}
    if password is not None:
        options["registry_credentials"] = write_login(tmp_path / "config.json", front.address, password=password)

    with capture_logs() as logs, pytest.raises(Permanent, match=tells) as error:
        await nodes.provisioner_with(**options).ensure(spec, ignore)

    assert error.value.code == "image_pull_denied"
    assert front.count(BLOB) == 0
    shown = f"{error.value!r} {error.value.__cause__!r} {logs}"
    assert not any(secret in shown for secret in ("staple", base64.b64encode(b"lab:battery staple").decode()))
    await nodes.nothing_left()
