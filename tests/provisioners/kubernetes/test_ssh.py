"""A user's key opens their pod, and nobody else's does: with OpenSSH's client, and its server not as root."""

import asyncio
from pathlib import Path

import pytest

from consumer.catalog.environment import AccessHints, Port, Readiness
from consumer.catalog.security import Security
from consumer.catalog.ssh_keys import Login, read_public_key
from tests.conftest import had
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.conftest import RESTRICTED
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tests.services import Kubernetes
from tests.services.ssh import SSH_IMAGE, SSH_PORT, SSHD, KeyPair, log_in, ssh_image

pytestmark = [pytest.mark.kubelet, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def cluster(kubernetes_with_kubelet: Kubernetes) -> Kubernetes:
    """With the image on its node."""
    kubernetes_with_kubelet.load(had(ssh_image))
    return kubernetes_with_kubelet


async def test_the_line_that_users_are_told_lets_them_in_and_nobody_else(cluster: Kubernetes, tmp_path: Path) -> None:
    ours, theirs = [await asyncio.to_thread(KeyPair.make, tmp_path / name) for name in ("ours", "theirs")]
    with cluster.namespace(RESTRICTED) as namespace:
        harness = KubernetesHarness(str(cluster.kubeconfig), namespace)
        await harness.connect()
        spec = harness.spec(
            image=SSH_IMAGE,
            command=SSHD,
            ports=(Port(SSH_PORT),),
            access=AccessHints(ssh_port=SSH_PORT, ssh_user="student"),
            login=Login(read_public_key(ours.public), "student"),
            security=Security(user="1000:1000"),
            ready=Readiness(port=SSH_PORT),
        )

        made = await harness.provisioner_with(stop_timeout=1).ensure(spec, ignore)

        assert made.notes == ()
        assert made.access.ssh is not None
        assert (await log_in(made.access.ssh, ours, "id -un; pwd"))[:2] == (0, "student\n/home/student\n")
        for stranger in (theirs, None):
            code, output, said = await log_in(made.access.ssh, stranger, "id")
            assert (code, output) == (255, "")
            assert "Permission denied (publickey)" in said
        assert await harness.clean_up() == []
