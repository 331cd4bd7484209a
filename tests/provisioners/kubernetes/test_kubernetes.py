"""The Kubernetes runtime on a real API server."""

import asyncio
import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import NetworkingV1Api

from consumer.catalog.environment import Kubernetes, Limits, Port, Readiness
from consumer.catalog.identity import EXPIRES_AT
from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.handling.ports import Status
from consumer.provisioners.kubernetes.metrics import usage_of
from schemas.events import Resource, User
from tests.provisioners.conformance import SurvivalConformance
from tests.provisioners.harness import UNTIL, ignore
from tests.provisioners.kubernetes.harness import KubernetesHarness

pytestmark = pytest.mark.kubernetes


class TestKubernetes(SurvivalConformance):
    pass


async def test_a_cluster_of_several_says_which_it_is(harness: KubernetesHarness) -> None:
    provisioner = harness.provisioner_with(name="kubernetes@east")

    made = await provisioner.ensure(harness.spec(), ignore)

    assert (provisioner.runtime, made.runtime) == ("kubernetes@east", "kubernetes@east")
    assert await provisioner.list() == [made]


async def test_everything_belongs_to_the_anchor_and_goes_with_it(harness: KubernetesHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec(), ignore)
    assert len(await harness.leftovers()) == 5

    await harness.core.delete_namespaced_config_map(made.name, harness.namespace)

    await harness.nothing_left()


@pytest.mark.parametrize(
    ("user", "resource"),
    [
        (User(id="u-1", name="Zoë O’Brien-Łukasz <zoe@example.org>"), Resource(id="r/1", name="GPU #1 (A100, 80 GB)")),
        (User(id="用户", name="王小明"), Resource(id="-", name="…")),
        (User(id="x" * 200, name="y" * 300), Resource(id="z" * 200, name="-" * 100)),
    ],
)
async def test_people_and_resources_may_be_called_anything(
    harness: KubernetesHarness, user: User, resource: Resource
) -> None:
    provisioner, spec = harness.provisioner(), harness.spec(user=user, resource=resource, labels={})

    made = await provisioner.ensure(spec, ignore)

    assert (made.user, made.user_id, made.resource_id) == (user.name, user.id, resource.id)
    assert await provisioner.list() == [made]


async def test_another_name_for_the_same_user_is_not_another_environment(harness: KubernetesHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()
    made = await provisioner.ensure(spec, ignore)

    again = await provisioner.ensure(replace(spec, name=f"{spec.name}-x"), ignore)

    assert again == made
    assert len(await harness.leftovers()) == 5


async def test_an_instance_may_be_called_anything_too(harness: KubernetesHarness) -> None:
    harness.instance += ".-_"
    provisioner = harness.provisioner()

    made = await provisioner.ensure(harness.spec(), ignore)

    assert await provisioner.list() == [made]


async def test_a_pod_is_hardened_and_has_the_limits_of_its_template(harness: KubernetesHarness) -> None:
    spec = harness.spec(
        limits=Limits(cpu_millis=500, memory_bytes=256 * 1024**2, storage_bytes=1024**3),
        entrypoint=("tini", "--"),
        command=("sh", "-c", "echo $(HOME) $HOME $$"),
        working_dir="/srv",
        ready=Readiness(port=8080, path="/health"),
    )

    pod = (await harness.pod(await harness.provisioner_with(max_lease=3600).ensure(spec, ignore)))["spec"]

    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["restartPolicy"], pod["activeDeadlineSeconds"]) == ("Never", 3600)
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    limits = {"cpu": "500m", "memory": str(256 * 1024**2), "ephemeral-storage": str(1024**3)}
    assert container["resources"]["limits"] == limits
    assert (container["command"], container["workingDir"]) == (["tini", "--"], "/srv")
    assert container["args"][2] == "echo $$(HOME) $$HOME $$$$", "the kubelet would make something else of it"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"


async def test_a_service_is_reached_as_its_template_says(harness: KubernetesHarness) -> None:
    ports = (Port(8080, service=80), Port(53, protocol="udp"))
    spec = harness.spec(ports=ports, kubernetes=Kubernetes(service="cluster"))

    access = (await harness.provisioner().ensure(spec, ignore)).access

    assert access.url == f"http://{spec.name}.{harness.namespace}.svc:80"
    assert {(port.port, port.host_port, port.protocol) for port in access.ports} == {(8080, 80, "tcp"), (53, 53, "udp")}


async def test_a_node_port_is_told_with_the_address_of_the_node_or_the_public_one(harness: KubernetesHarness) -> None:
    spec = harness.spec()

    made = await harness.provisioner().ensure(spec, ignore)
    elsewhere = await harness.provisioner_with(public_host="labs.example.org").find(spec.key)

    pod = await harness.pod(made)
    assert made.access.host == pod["status"]["hostIP"]
    assert elsewhere is not None
    assert elsewhere.access.url == f"http://labs.example.org:{made.access.ports[0].host_port}"


@pytest.mark.parametrize(
    ("given", "host"),
    [({"ip": "192.0.2.7"}, "192.0.2.7"), ({"ip": "2001:db8::7"}, "[2001:db8::7]"), ({"hostname": "lb.org"}, "lb.org")],
)
async def test_a_load_balancers_address_is_waited_for(
    harness: KubernetesHarness, given: dict[str, str], host: str
) -> None:
    spec = harness.spec(kubernetes=Kubernetes(service="load-balancer"))
    ensuring = asyncio.create_task(harness.provisioner().ensure(spec, ignore))
    await harness.there(spec.name)
    status = {"loadBalancer": {"ingress": [given]}}
    await harness.core.patch_namespaced_service_status(spec.name, harness.namespace, {"status": status})

    made = await ensuring

    assert made.access.url == f"http://{host}:8080"
    assert await harness.provisioner().list() == [made]


async def test_a_load_balancer_that_somebody_removes_is_asked_for_again(harness: KubernetesHarness) -> None:
    spec = harness.spec(kubernetes=Kubernetes(service="load-balancer"))
    ensuring = asyncio.create_task(harness.provisioner().ensure(spec, ignore))
    await harness.there(spec.name)
    await harness.core.delete_namespaced_service(spec.name, harness.namespace)

    with pytest.raises(Transient, match="service was deleted"):
        await ensuring


async def test_a_load_balancer_without_an_address_is_not_ready(harness: KubernetesHarness) -> None:
    spec = harness.spec(kubernetes=Kubernetes(service="load-balancer"))

    with pytest.raises(Permanent, match="no address in time") as error:
        await harness.provisioner_with(address_timeout=0.3).ensure(spec, ignore)

    assert error.value.code == "not_ready"
    await harness.nothing_left()


async def test_only_what_was_asked_for_is_let_in_and_no_private_network_is_reached(harness: KubernetesHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec(), ignore)

    shown = await NetworkingV1Api(harness.api).read_namespaced_network_policy(made.name, harness.namespace)
    policy = harness.api.sanitize_for_serialization(shown)["spec"]

    assert policy["podSelector"]["matchLabels"] == {"moorage/reservation": made.key}
    assert policy["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    closed = policy["egress"][1]["to"][0]["ipBlock"]["except"]
    assert {"10.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(closed)
    assert {"192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4"} <= set(closed)
    assert "64:ff9b::/96" in policy["egress"][1]["to"][1]["ipBlock"]["except"]


async def test_a_later_end_is_written_on_the_anchor(harness: KubernetesHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()
    made = await provisioner.ensure(spec, ignore)
    later = UNTIL + timedelta(hours=2)

    again = await provisioner.ensure(replace(spec, expires_at=later), ignore)

    assert (again.native_id, again.expires_at) == (made.native_id, later)
    anchor = await harness.core.read_namespaced_config_map(made.name, harness.namespace)
    assert anchor.metadata.annotations[EXPIRES_AT] == later.isoformat()


async def test_values_of_variables_are_in_a_secret_alone(harness: KubernetesHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec(environment={"TOKEN": "hunter2"}), ignore)

    anchor = await harness.core.read_namespaced_config_map(made.name, harness.namespace)
    assert "hunter2" not in str(await harness.pod(made))
    assert "hunter2" not in str(anchor)


async def test_a_pod_that_is_made_again_has_the_variables_and_the_login_of_now(
    harness: KubernetesHarness, tmp_path: Path
) -> None:
    logins = tmp_path / "config.json"
    logins.write_text(json.dumps({"auths": {"registry.example.org": {"auth": "YTpvbGQ="}}}))
    provisioner = harness.provisioner_with(registry_credentials=logins)
    end, email = "RESERVATION_END", "USER_EMAIL"
    made = await provisioner.ensure(harness.spec(environment={end: "noon"}), ignore)
    later = harness.spec(environment={end: "one", email: "a@example.org"})
    await provisioner.ensure(later, ignore)
    assert await harness.variables(made) == {end: "noon"}, "what runs is left as it is"

    await harness.stop(made)
    logins.write_text(json.dumps({"auths": {"registry.example.org": {"auth": "YTpuZXc="}}}))
    again = await provisioner.ensure(later, ignore)

    assert again.native_id == made.native_id
    assert await harness.variables(again) == later.environment
    secret = await harness.core.read_namespaced_secret(f"{made.name}-pull", harness.namespace)
    assert b"YTpuZXc=" in base64.b64decode(secret.data[".dockerconfigjson"])


async def test_no_pod_is_made_while_one_of_an_earlier_anchor_runs(harness: KubernetesHarness) -> None:
    spec = harness.spec()
    made = await harness.provisioner().ensure(spec, ignore)
    pod = await harness.pod(made)
    left = {name: pod["metadata"][name] for name in ("labels", "annotations")} | {"name": f"{made.name}-x"}
    await harness.core.create_namespaced_pod(harness.namespace, {"metadata": left, "spec": pod["spec"]})
    await harness.stop(made)
    impatient = harness.provisioner_with(gone_timeout=0.3)

    with pytest.raises(Transient, match="still being removed"):
        await impatient.ensure(spec, ignore)


@pytest.mark.parametrize("kind", ["pod", "secret", "service"])
async def test_what_somebody_else_has_under_the_name_of_a_part_is_left_alone(
    harness: KubernetesHarness, kind: str
) -> None:
    spec = harness.spec()
    foreign: dict[str, Any] = {"metadata": {"name": spec.name}}
    if kind == "pod":
        foreign["spec"] = {"containers": [_hardened()], "securityContext": {"runAsNonRoot": True}}
    if kind == "service":
        foreign["spec"] = {"ports": [{"port": 80}]}
    create, delete = (getattr(harness.core, f"{verb}_namespaced_{kind}") for verb in ("create", "delete"))
    await create(harness.namespace, foreign)

    with pytest.raises(Permanent) as conflict:
        await harness.provisioner().ensure(spec, ignore)

    assert conflict.value.code == "conflict"
    assert len(await harness.leftovers()) == 1
    await delete(spec.name, harness.namespace)
    await harness.nothing_left()


async def test_a_namespace_that_does_not_exist_is_named(harness: KubernetesHarness) -> None:
    provisioner = harness.provisioner_with(namespace="nobody-made-it")

    with pytest.raises(Unavailable, match="does not exist: create it"):
        await provisioner.ensure(harness.spec(), ignore)


async def test_a_pod_that_somebody_deletes_is_told_and_made_again(harness: KubernetesHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()
    told: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(provisioner.watch(told.put_nowait))
    made = await provisioner.ensure(spec, ignore)

    await harness.core.delete_namespaced_pod(made.name, harness.namespace, grace_period_seconds=0)

    async with asyncio.timeout(30):
        assert await told.get() == spec.reservation_id
    found = await provisioner.find(spec.key)
    assert found is not None
    assert found.status is not Status.RUNNING
    assert (await provisioner.ensure(spec, ignore)).native_id == made.native_id
    watching.cancel()


async def test_how_a_program_ended_is_found(harness: KubernetesHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()
    made = await provisioner.ensure(spec, ignore)
    await harness.end(made.name, exit_code=137, reason="OOMKilled")

    found = await provisioner.find(spec.key)

    assert found is not None
    assert found.ending is not None
    assert (found.ending.exit_code, found.ending.out_of_memory) == (137, True)


@pytest.mark.parametrize(("lease", "told"), [(30, True), (31, False)])
async def test_whose_reservation_is_longer_than_the_cluster_lets_pods_live_is_told(
    harness: KubernetesHarness, lease: int, told: bool
) -> None:
    provisioner = harness.provisioner_with(max_lease=lease * 24 * 3600)
    spec = harness.spec(expires_at=datetime.now(UTC) + timedelta(days=30, hours=1))

    made = await provisioner.ensure(spec, ignore)

    assert made.notes == ("The cluster ends it after 30 days, before the reservation ends.",) * told


async def test_a_container_that_the_cluster_puts_beside_ours_is_not_taken_for_it(harness: KubernetesHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()
    made = await provisioner.ensure(spec, ignore)
    (ours,) = (await harness.pod(made))["status"]["containerStatuses"]
    theirs = ours | {"name": "a-proxy", "imageID": f"proxy@sha256:{'0' * 64}"}
    ended = {"state": {"terminated": {"exitCode": 7, "reason": "Error"}}, "imageID": f"web@sha256:{'1' * 64}"}

    await harness.tell(made.name, containerStatuses=[theirs, ours | ended])

    found = await provisioner.find(spec.key)
    assert found is not None
    assert found.ending is not None
    assert (found.status, found.ending.exit_code) == (Status.STOPPED, 7), "though the other one runs"
    assert found.image_digest == f"sha256:{'1' * 64}"


def test_what_a_container_beside_ours_uses_is_not_told() -> None:
    containers = [{"name": name, "usage": {"cpu": "500m", "memory": "64Mi"}} for name in ("a-proxy", "environment")]

    used = usage_of({"timestamp": "2030-01-01T00:00:00Z", "containers": containers}, None)

    assert used is not None
    assert (used.cores, used.memory_bytes) == (0.5, 64 * 1024**2)


async def test_the_digest_of_what_runs_is_read_back_and_pinned(harness: KubernetesHarness) -> None:
    digest = f"sha256:{'0' * 63}1"
    provisioner, spec = harness.provisioner(), harness.spec(image_digest=digest)

    made = await provisioner.ensure(spec, ignore)

    pod = await harness.pod(made)
    assert pod["spec"]["containers"][0]["image"] == f"registry.example.org/web@{digest}"
    statuses = pod["status"]["containerStatuses"]
    statuses[0]["imageID"] = f"registry.example.org/web@{digest}"
    await harness.tell(made.name, containerStatuses=statuses)
    found = await provisioner.find(spec.key)
    assert found is not None
    assert (found.image, found.image_digest) == (spec.image, digest)


async def test_a_port_of_the_nodes_that_is_taken_is_tried_again_later(
    harness: KubernetesHarness, free_port: int
) -> None:
    provisioner, port = harness.provisioner(), (Port(8080, host=free_port),)
    await provisioner.ensure(harness.spec("r-1", ports=port), ignore)

    with pytest.raises(Exception, match="in use") as error:
        await provisioner.ensure(harness.spec("r-2", ports=port), ignore)

    assert getattr(error.value, "code", None) == "port_taken"


async def test_a_port_that_nodes_do_not_offer_is_refused(harness: KubernetesHarness) -> None:
    with pytest.raises(Permanent, match="range of valid ports"):
        await harness.provisioner().ensure(harness.spec(ports=(Port(8080, host=80),)), ignore)


def _hardened() -> dict[str, Any]:
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {"name": "x", "image": "x", "securityContext": security}
