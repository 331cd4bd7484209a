"""The login for a private registry goes to the pods that need it, and to nobody else."""

import base64
import json
from pathlib import Path

import pytest

from consumer.provisioners.kubernetes.logins import login_secret_of
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.harness import KubernetesHarness

LOGINS = {
    "registry.example.org": {"auth": base64.b64encode(b"robot:hunter2").decode()},
    "other.example.org": {"auth": "eDp5"},
}


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": LOGINS}))
    return path


@pytest.mark.kubernetes
async def test_a_pod_has_the_login_for_its_own_registry_and_it_goes_with_it(
    harness: KubernetesHarness, credentials: Path
) -> None:
    provisioner, spec = harness.provisioner_with(registry_credentials=credentials), harness.spec()

    made = await provisioner.ensure(spec, ignore)

    (named,) = (await harness.pod(made))["spec"]["imagePullSecrets"]
    secret = await harness.core.read_namespaced_secret(named["name"], harness.namespace)
    assert secret.type == "kubernetes.io/dockerconfigjson"
    (registry, entry), *others = json.loads(base64.b64decode(secret.data[".dockerconfigjson"]))["auths"].items()
    assert (registry, entry["auth"], others) == ("registry.example.org", LOGINS["registry.example.org"]["auth"], [])
    assert await provisioner.remove(spec.key) is True
    assert await harness.leftovers() == []


@pytest.mark.kubernetes
async def test_an_image_of_another_registry_has_none(harness: KubernetesHarness, credentials: Path) -> None:
    provisioner = harness.provisioner_with(registry_credentials=credentials)

    made = await provisioner.ensure(harness.spec(image="public.example.org/web:1"), ignore)

    assert "imagePullSecrets" not in (await harness.pod(made))["spec"]


def test_docker_hub_is_called_what_nodes_call_it() -> None:
    login = {"identitytoken": "t", "serveraddress": "docker.io"}

    secret = login_secret_of(login, {"name": "x"})

    assert secret["metadata"] == {"name": "x-pull"}
    assert json.loads(secret["stringData"][".dockerconfigjson"]) == {
        "auths": {"https://index.docker.io/v1/": {"identitytoken": "t"}}
    }
