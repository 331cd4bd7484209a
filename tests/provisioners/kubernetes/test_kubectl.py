"""The lines that are ready to paste: for the right pod, from ports that anybody may open."""

import pytest

from consumer.catalog.environment import Kubernetes, Port
from consumer.provisioners.kubernetes.kubectl import kubectl_of
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.harness import KubernetesHarness

ANCHOR = {"metadata": {"name": "r-ann-gpu-1-0a1b2c3d4e", "namespace": "labs"}}


@pytest.mark.parametrize(
    ("ports", "pairs"),
    [
        ([], []),
        ([(8888, 8888)], ["8888:8888"]),
        ([(9000, 8888)], ["9000:8888"]),
        ([(80, 8888)], ["8888:8888"]),
        ([(80, 80), (443, 443), (22, 22)], ["8080:80", "8443:443", "8022:22"]),
        ([(8080, 8080), (80, 80), (80, 8080)], ["8080:8080", "8081:80", "8082:8080"]),
        ([(1023, 1023), (65_535, 65_535)], ["8023:1023", "65535:65535"]),
    ],
)
def test_ports_are_forwarded_from_where_anybody_may_listen(ports: list[tuple[int, int]], pairs: list[str]) -> None:
    shown = [{"port": outside, "targetPort": inside, "protocol": "TCP"} for outside, inside in ports]

    lines = kubectl_of(ANCHOR, shown).port_forward

    start = "kubectl -n labs port-forward pod/r-ann-gpu-1-0a1b2c3d4e "
    assert lines == tuple(f"{start}{pair}" for pair in pairs)


@pytest.mark.kubernetes
async def test_an_environment_is_told_with_lines_that_stay_what_they_are(harness: KubernetesHarness) -> None:
    ports = (Port(8080, service=80), Port(53, protocol="udp"))
    spec = harness.spec(ports=ports, kubernetes=Kubernetes(service="cluster"))

    made = await harness.provisioner().ensure(spec, ignore)

    told, call = made.access.kubectl, f"kubectl -n {harness.namespace}"
    assert told is not None
    assert told.logs == f"{call} logs -f pod/{spec.name} -c environment"
    assert told.exec == f"{call} exec -it pod/{spec.name} -c environment -- sh"
    assert told.port_forward == (f"{call} port-forward pod/{spec.name} 8080:8080",)
    assert told.kubeconfig is None
    restarted = harness.provisioner()
    assert await restarted.find(spec.key) == made
    assert await restarted.list() == [made]
