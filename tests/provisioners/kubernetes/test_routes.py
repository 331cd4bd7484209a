"""Ingresses and HTTPRoutes on a real API server; what controllers would say of them is written by the tests."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import CustomObjectsApi, NetworkingV1Api

from consumer.catalog.environment import EnvironmentSpec, Kubernetes, Port
from consumer.catalog.needs import Needs
from consumer.catalog.routes import Gateway, Ingress, Route
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Environment, Finding, Level, Progress
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import NoSuchApi
from consumer.provisioners.kubernetes.kinds import Kind
from consumer.provisioners.kubernetes.permissions import (
    HTTP_ROUTES,
    INGRESS_CLASSES,
    INGRESSES,
    NEEDED,
    WELCOME,
    needed_for,
)
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tests.provisioners.kubernetes.proxy import ApiProxy
from tests.provisioners.kubernetes.test_permissions import written
from tests.services import Kubernetes as Cluster

pytestmark = pytest.mark.kubernetes

INGRESS = Ingress(host="{name}.labs.example.org", https=True, class_name="nginx", secret="labs-wildcard")
GATEWAY = Gateway(host="lab-{name}.example.org", https=True, name="public", namespace="gateways", section="https")
CREATE = r"POST \S+/ingresses"
GATEWAY_API = r"/apis/gateway.networking.k8s.io/v1"
WAYS = pytest.mark.parametrize("route", [INGRESS, GATEWAY], ids=["ingress", "gateway"])


def led(harness: KubernetesHarness, route: Route, reservation: str = "r-1", **changes: Any) -> EnvironmentSpec:
    return harness.spec(reservation, kubernetes=Kubernetes(service="cluster", route=route), **changes)


async def made_by(harness: KubernetesHarness, provisioner: Any, spec: EnvironmentSpec) -> Environment:
    """The environment; should a Gateway have to take its route, it does."""
    ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
    if isinstance(spec.kubernetes.route, Gateway):
        await harness.judge(spec.name, Accepted=(True, "Accepted"), ResolvedRefs=(True, "ResolvedRefs"))
    made: Environment = await ensuring
    return made


async def ingress_of(harness: KubernetesHarness, name: str) -> Any:
    shown = await NetworkingV1Api(harness.api).read_namespaced_ingress(name, harness.namespace)
    return harness.api.sanitize_for_serialization(shown)


async def test_an_ingress_leads_to_the_pages_of_an_environment(harness: KubernetesHarness) -> None:
    annotated = replace(INGRESS, annotations={"nginx.ingress.kubernetes.io/proxy-body-size": "1g"})
    spec = led(harness, annotated, ports=(Port(8080, service=80), Port(22)))

    made = await harness.provisioner().ensure(spec, ignore)

    ingress, host = await ingress_of(harness, made.name), f"{made.name}.labs.example.org"
    assert made.access.url == f"https://{host}"
    assert made.access.host == f"{made.name}.{harness.namespace}.svc", "other ports are where they were"
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": [host], "secretName": "labs-wildcard"}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == host
    assert rule["http"]["paths"][0]["backend"] == {"service": {"name": made.name, "port": {"number": 80}}}
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"] == "1g"
    policy = await NetworkingV1Api(harness.api).read_namespaced_network_policy(made.name, harness.namespace)
    assert policy.spec.ingress[0]._from is None, "controllers may be in any namespace, or on nodes"
    assert 8080 in [port.port for port in policy.spec.ingress[0].ports]


async def test_without_a_secret_the_controller_has_the_certificate_or_there_is_none(harness: KubernetesHarness) -> None:
    controllers = await harness.provisioner().ensure(led(harness, replace(INGRESS, secret=None)), ignore)
    plain = Ingress(host=INGRESS.host)
    without = await harness.provisioner().ensure(led(harness, plain, "r-2"), ignore)

    assert (await ingress_of(harness, controllers.name))["spec"]["tls"] == [
        {"hosts": [f"{controllers.name}.labs.example.org"]}
    ]
    assert (await ingress_of(harness, without.name))["spec"].keys() == {"rules"}
    assert without.access.url == f"http://{without.name}.labs.example.org"


async def test_an_http_route_leads_there_once_a_gateway_has_taken_it(
    harness: KubernetesHarness, gateway_api: None
) -> None:
    spec, steps = led(harness, GATEWAY, ports=(Port(8080, service=80),)), list[Progress]()
    ensuring = asyncio.create_task(harness.provisioner().ensure(spec, steps.append))
    await harness.judge(spec.name, Accepted=(False, "Pending"))
    await harness.judge(spec.name, Accepted=(True, "Accepted"), ResolvedRefs=(False, "BackendNotFound"))
    assert not ensuring.done()
    await harness.judge(spec.name, Accepted=(True, "Accepted"), ResolvedRefs=(True, "ResolvedRefs"))

    made = await ensuring

    assert made.access.url == f"https://lab-{made.name}.example.org"
    assert steps[-1] == Progress("routing", made.name)
    (route,) = await harness.http_routes()
    (parent,) = route["spec"]["parentRefs"]
    assert (parent["namespace"], parent["name"], parent["sectionName"]) == ("gateways", "public", "https")
    assert route["spec"]["hostnames"] == [f"lab-{made.name}.example.org"]
    (rule,) = route["spec"]["rules"]
    assert (rule["backendRefs"][0]["name"], rule["backendRefs"][0]["port"]) == (made.name, 80)
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]


@WAYS
async def test_whoever_looks_later_finds_the_same_whatever_templates_say_by_then(
    harness: KubernetesHarness, gateway_api: None, route: Route
) -> None:
    made = await made_by(harness, harness.provisioner(), led(harness, route))

    later = harness.provisioner()

    assert await later.find(made.key) == made
    assert await later.list() == [made]
    assert await later.ensure(led(harness, route), ignore) == made
    assert await later.remove(made.key) is True
    assert await harness.leftovers() == []


async def test_an_ingress_goes_with_its_anchor(harness: KubernetesHarness) -> None:
    made = await harness.provisioner().ensure(led(harness, INGRESS), ignore)
    assert len(await harness.leftovers()) == 6

    await harness.core.delete_namespaced_config_map(made.name, harness.namespace)

    await harness.nothing_left()


async def test_somebody_elses_ingress_is_left_alone(harness: KubernetesHarness) -> None:
    provisioner, spec, network = harness.provisioner(), led(harness, INGRESS), NetworkingV1Api(harness.api)
    backend = {"service": {"name": "theirs", "port": {"number": 80}}}
    theirs = {"metadata": {"name": spec.name}, "spec": {"defaultBackend": backend}}
    await network.create_namespaced_ingress(harness.namespace, theirs)

    with pytest.raises(Permanent, match="something Moorage did not make") as conflict:
        await provisioner.ensure(spec, ignore)

    assert conflict.value.code == "conflict"
    await provisioner.remove(spec.key)
    assert await harness.leftovers() == [f"V1Ingress {spec.name}"]
    await network.delete_namespaced_ingress(spec.name, harness.namespace)


async def test_when_the_reply_to_its_creation_is_lost_looking_tells(
    harness: KubernetesHarness, proxy: ApiProxy
) -> None:
    proxy.on(CREATE, "lose_reply")

    made = await harness.provisioner_with(kubeconfig=str(proxy.kubeconfig)).ensure(led(harness, INGRESS), ignore)

    assert made.access.url is not None
    assert made.access.url.startswith("https://")
    assert proxy.count(CREATE) == 1


async def test_what_a_kill_between_service_and_ingress_left_is_completed(harness: KubernetesHarness) -> None:
    spec = led(harness, INGRESS)
    await harness.ensure_elsewhere(spec, die="consumer.provisioners.kubernetes.leading:Routes.ensure:before")
    assert [each for each in await harness.leftovers() if "Ingress" in each or "Pod" in each] == []

    made = await harness.provisioner().ensure(spec, ignore)

    assert made.access.url == f"https://{spec.name}.labs.example.org"
    assert len(await harness.leftovers()) == 6


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"Accepted": (True, "Accepted"), "ResolvedRefs": (False, "RefNotPermitted")}, "RefNotPermitted"),
        ({}, "none has said in time that it knows the HTTPRoute"),
    ],
)
async def test_a_route_that_no_gateway_takes_is_told_with_the_reason(
    harness: KubernetesHarness,
    gateway_api: None,
    said: dict[str, tuple[bool, str]],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumer.provisioners.kubernetes.leading._BELIEVED", 0.6)
    spec = led(harness, GATEWAY)
    ensuring = asyncio.create_task(harness.provisioner_with(address_timeout=10).ensure(spec, ignore))
    await harness.judge(spec.name, **said)

    with pytest.raises(Permanent, match=why) as refused:
        await ensuring

    assert refused.value.code == "route_refused"
    await harness.nothing_left()


async def test_a_refusal_is_believed_long_before_silence_is(
    harness: KubernetesHarness, gateway_api: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.provisioners.kubernetes.leading._BELIEVED", 0.6)
    spec = led(harness, GATEWAY)
    ensuring = asyncio.create_task(harness.provisioner_with(address_timeout=600).ensure(spec, ignore))
    await harness.judge(spec.name, Accepted=(False, "NoMatchingListenerHostname"))

    with pytest.raises(Permanent, match="NoMatchingListenerHostname"):
        await ensuring


async def test_a_route_that_somebody_deletes_meanwhile_is_made_again(
    harness: KubernetesHarness, gateway_api: None
) -> None:
    spec, provisioner = led(harness, GATEWAY), harness.provisioner()
    ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
    await harness.judge(spec.name)
    await CustomObjectsApi(harness.api).delete_namespaced_custom_object(
        "gateway.networking.k8s.io", "v1", harness.namespace, "httproutes", spec.name
    )

    with pytest.raises(Transient, match="was deleted"):
        await ensuring
    assert (await made_by(harness, provisioner, spec)).access.url is not None


async def test_a_server_says_so_of_kinds_that_it_does_not_have(harness: KubernetesHarness, gateway_api: None) -> None:
    client = Client(harness.options(harness.instance))
    for group, version, plural in (
        ("nobody.example.org", "v1", "things"),
        ("gateway.networking.k8s.io", "v0", "httproutes"),
        ("gateway.networking.k8s.io", "v1", "things"),
    ):
        with pytest.raises(NoSuchApi):
            await client.create(
                Kind("Thing", plural, group, version), {"metadata": {"name": "x", "namespace": harness.namespace}}
            )
        with pytest.raises(NoSuchApi):
            await client.list(Kind("Thing", plural, group, version), "", harness.namespace)
    await client.close()


async def test_a_cluster_without_the_gateway_api_is_told_of(harness: KubernetesHarness, proxy: ApiProxy) -> None:
    proxy.answer(GATEWAY_API, 404, "", raw=b"404 page not found\n", times=10)
    provisioner = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig))

    with pytest.raises(Permanent, match=r"kind HTTPRoute \(gateway.networking.k8s.io/v1\)") as refused:
        await provisioner.ensure(led(harness, GATEWAY), ignore)

    assert refused.value.code == "route_refused"
    await harness.nothing_left()
    (finding,) = bad(await provisioner.diagnose(Needs(routes=(("web", GATEWAY),))))
    assert (finding.level, finding.subject) == (Level.ERROR, "template web")
    assert "no Gateway API" in finding.message


async def test_an_environment_whose_kind_of_route_the_cluster_lost_is_found_and_removed(
    harness: KubernetesHarness, gateway_api: None, proxy: ApiProxy
) -> None:
    made = await made_by(harness, harness.provisioner(), led(harness, GATEWAY))
    proxy.answer(GATEWAY_API, 404, "", raw=b"404 page not found\n", times=100)
    without = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig))

    found = await without.find(made.key)

    assert found is not None
    assert found.access.url == made.access.url
    assert await without.remove(made.key) is True
    assert await without.list() == []
    await CustomObjectsApi(harness.api).delete_collection_namespaced_custom_object(
        "gateway.networking.k8s.io", "v1", harness.namespace, "httproutes"
    )


async def test_moorage_needs_the_rules_for_routes_where_templates_have_some_and_no_others(
    harness: KubernetesHarness, gateway_api: None, kubernetes: Cluster, namespace: str, tmp_path: Path
) -> None:
    needs = Needs(routes=(("web", INGRESS), ("lab", GATEWAY)))
    rules, everywhere = written([*needed_for(needs), *WELCOME]), written([INGRESS_CLASSES])
    kubeconfig = kubernetes.account(namespace, rules, tmp_path / "kubeconfig", everywhere=everywhere)
    provisioner = harness.provisioner_with(kubeconfig=str(kubeconfig))

    for reservation, route in (("r-1", INGRESS), ("r-2", GATEWAY)):
        spec = led(harness, route, reservation)
        made = await made_by(harness, provisioner, spec)
        assert await provisioner.ensure(spec, ignore) == made
        assert await provisioner.remove(made.key) is True

    asked = {each for each in kubernetes.requests_of(namespace) if each[2] in ("ingresses", "httproutes")}
    allowed = {(verb, rule.group, rule.resource) for rule in (INGRESSES, HTTP_ROUTES) for verb in rule.verbs}
    assert asked <= allowed
    assert {verb for verb, _, _ in allowed - asked} <= {"delete"}, "the cluster may be quicker"
    assert needed_for(Needs()) == NEEDED


async def test_who_may_not_make_routes_is_told_and_goes_on_with_all_else(
    harness: KubernetesHarness, kubernetes: Cluster, namespace: str, tmp_path: Path
) -> None:
    kubeconfig = kubernetes.account(namespace, written([*NEEDED, *WELCOME]), tmp_path / "kubeconfig")
    provisioner = harness.provisioner_with(kubeconfig=str(kubeconfig))

    with pytest.raises(Permanent, match="may not make an Ingress") as refused:
        await provisioner.ensure(led(harness, INGRESS), ignore)

    assert refused.value.code == "route_refused"
    missing, classes = bad(await provisioner.diagnose(Needs(routes=(("web", INGRESS),))))
    assert missing.message == f"Moorage may not get, list, create, delete ingresses in the namespace {namespace}."
    assert classes.level is Level.WARNING
    assert bad(await provisioner.diagnose(Needs())) == []
    made = await harness.provisioner().ensure(led(harness, INGRESS), ignore)  # by somebody who may
    found = await provisioner.find(made.key)
    assert found is not None
    assert await provisioner.remove(made.key) is True
    assert await harness.leftovers() == []


async def test_doctor_knows_the_classes_of_a_cluster(harness: KubernetesHarness) -> None:
    network = NetworkingV1Api(harness.api)
    name, spec = f"{harness.instance}-nginx", {"controller": "k8s.io/ingress-nginx"}
    await network.create_ingress_class({"metadata": {"name": name}, "spec": spec})
    try:
        needs = Needs(routes=(("web", replace(INGRESS, class_name=name)), ("lab", replace(INGRESS, class_name="x"))))
        (finding,) = bad(await harness.provisioner().diagnose(needs))
        (unnamed,) = bad(await harness.provisioner().diagnose(Needs(routes=(("web", Ingress(host="x")),))))
    finally:
        await network.delete_ingress_class(name)

    assert (finding.level, finding.subject) == (Level.ERROR, "template lab")
    assert finding.message.startswith("The cluster has no Ingress class x:")
    assert finding.remedy is not None
    assert name in finding.remedy
    assert (unnamed.level, unnamed.message[:28]) == (Level.WARNING, "It names no Ingress class, a")


def bad(findings: Any) -> list[Finding]:
    return [each for each in findings if each.level is not Level.OK and each.subject != "metrics"]
