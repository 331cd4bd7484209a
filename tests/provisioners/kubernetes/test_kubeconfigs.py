"""Kubeconfigs for users: they lead to one pod, hold as long as its reservation, and are worth nothing afterwards."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.client import ApiClient, ApiException, AuthorizationV1Api, Configuration, CoreV1Api
from kubernetes_asyncio.config import load_kube_config_from_dict

from consumer.catalog.environment import EnvironmentSpec, Kubernetes
from consumer.catalog.needs import Needs
from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.handling.ports import Environment, Level
from consumer.provisioners.kubernetes import KubernetesProvisioner
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.kubeconfig import RENEW_AT, kubeconfig_of, renew_at, renewal, token_seconds
from consumer.provisioners.kubernetes.permissions import KUBECONFIGS, NEEDED, WELCOME
from schemas.outbound import SecretKey
from tests.provisioners.harness import ignore, until
from tests.provisioners.kubernetes.harness import STUCK, KubernetesHarness
from tests.provisioners.kubernetes.proxy import ApiProxy
from tests.provisioners.kubernetes.test_permissions import UNRESTRICTED, errors, written
from tests.services import Kubernetes as Cluster

pytestmark = pytest.mark.kubernetes

GIVEN = Kubernetes(kubeconfig=True)
NOON = datetime(2030, 5, 17, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OWN = [("get", "pods", ""), ("get", "pods", "log")]
OWN += [(verb, "pods", part) for part in ("exec", "portforward") for verb in ("get", "create")]
NOBODYS = [
    *(("list", kind, "") for kind in ("pods", "secrets", "configmaps")),
    *((verb, "pods", "") for verb in ("create", "delete", "patch", "update", "watch")),
    *(("get", kind, "") for kind in ("secrets", "configmaps", "services")),
    ("create", "serviceaccounts", "token"),
    ("get", "pods", "proxy"),
    ("create", "pods", "attach"),
    ("patch", "pods", "ephemeralcontainers"),
]


def asked(harness: KubernetesHarness, reservation: str = "r-1", *, lasts: timedelta = HOUR) -> EnvironmentSpec:
    until = datetime.now(UTC).replace(microsecond=0) + lasts
    return harness.spec(reservation, kubernetes=GIVEN, expires_at=until)


def provisioner_of(harness: KubernetesHarness, **changes: Any) -> KubernetesProvisioner:
    made = harness.provisioner_with(**changes)
    assert isinstance(made, KubernetesProvisioner)
    return made


async def kubeconfig(provisioner: KubernetesProvisioner, spec: EnvironmentSpec) -> dict[str, Any]:
    text = await provisioner.kubeconfig(spec.key)
    assert text is not None
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def runs_out(shown: dict[str, Any]) -> datetime:
    """When the token of a kubeconfig does."""
    payload = shown["users"][0]["user"]["token"].split(".")[1]
    return datetime.fromtimestamp(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"], UTC)


def nearly(left: datetime, right: datetime) -> bool:
    return abs(left - right) < timedelta(seconds=30)


@asynccontextmanager
async def used(shown: dict[str, Any]) -> AsyncIterator[ApiClient]:
    """The API as the user has it."""
    configuration = Configuration()
    await load_kube_config_from_dict(shown, client_configuration=configuration)
    async with ApiClient(configuration) as api:
        yield api


async def allowed(api: ApiClient, namespace: str, name: str, what: list[tuple[str, str, str]]) -> list[bool]:
    async def ask(verb: str, resource: str, part: str) -> bool:
        attributes = {"namespace": namespace, "verb": verb, "resource": resource, "subresource": part, "name": name}
        body = {"spec": {"resourceAttributes": attributes}}
        review = await AuthorizationV1Api(api).create_self_subject_access_review(body)
        return bool(review.status.allowed)

    return list(await asyncio.gather(*(ask(*each) for each in what)))


async def given(harness: KubernetesHarness, provisioner: KubernetesProvisioner, spec: EnvironmentSpec) -> Environment:
    made = await provisioner.ensure(spec, ignore)
    assert made.access.kubectl is not None
    place = SecretKey(namespace=harness.namespace, secret=f"{made.name}-kubeconfig", key="kubeconfig")
    assert made.access.kubectl.kubeconfig == place
    return made


async def refused(api: ApiClient, harness: KubernetesHarness, name: str) -> int:
    """With which status the API server turns the user away, as soon as it does."""
    async with asyncio.timeout(30):
        while True:
            try:
                await CoreV1Api(api).read_namespaced_pod(name, harness.namespace)
            except ApiException as error:
                if error.status in (401, 403):
                    return int(error.status)
            await asyncio.sleep(0.05)


async def test_it_leads_to_the_users_own_pod_and_to_nothing_else(harness: KubernetesHarness) -> None:
    provisioner, spec, other = provisioner_of(harness), asked(harness), harness.spec("r-2")
    made, others = await given(harness, provisioner, spec), await provisioner.ensure(other, ignore)

    shown = await kubeconfig(provisioner, spec)

    assert nearly(runs_out(shown), spec.expires_at)
    assert shown["contexts"][0]["context"]["namespace"] == harness.namespace
    async with used(shown) as api:
        assert (await CoreV1Api(api).read_namespaced_pod(made.name, harness.namespace)).metadata.name == made.name
        assert all(await allowed(api, harness.namespace, made.name, OWN))
        assert not any(await allowed(api, harness.namespace, made.name, NOBODYS))
        assert not any(await allowed(api, harness.namespace, others.name, OWN))
        assert not any(await allowed(api, "default", made.name, OWN))
    assert await provisioner.kubeconfig(other.key) is None
    pod = (await harness.pod(made))["spec"]
    assert (pod["automountServiceAccountToken"], pod.get("serviceAccountName")) == (False, "default")
    restarted = harness.provisioner()
    assert await restarted.find(spec.key) == made
    assert await restarted.ensure(spec, ignore) == made


async def test_it_is_worth_nothing_once_the_environment_is_gone(harness: KubernetesHarness) -> None:
    provisioner, spec = provisioner_of(harness), asked(harness)
    made = await given(harness, provisioner, spec)
    shown = await kubeconfig(provisioner, spec)

    assert await provisioner.remove(spec.key) is True

    assert await harness.leftovers() == []
    assert await provisioner.kubeconfig(spec.key) is None
    async with used(shown) as api:
        assert await refused(api, harness, made.name) == 401
    again = await given(harness, provisioner, spec)
    async with used(shown) as api:
        assert await refused(api, harness, again.name) == 401


async def test_it_follows_the_end_of_the_reservation(harness: KubernetesHarness) -> None:
    provisioner, spec = provisioner_of(harness), asked(harness)
    made = await given(harness, provisioner, spec)
    assert made.renew_at is not None
    assert nearly(made.renew_at, spec.expires_at)

    assert await provisioner.extend(spec.key, spec.expires_at + HOUR) is True

    assert nearly(runs_out(await kubeconfig(provisioner, spec)), spec.expires_at + HOUR)
    extended = await provisioner.ensure(replace(spec, expires_at=spec.expires_at + 2 * HOUR), ignore)
    assert nearly(runs_out(await kubeconfig(provisioner, spec)), spec.expires_at + 2 * HOUR)
    assert extended.renew_at is not None
    assert nearly(extended.renew_at, spec.expires_at + 2 * HOUR)


async def test_one_that_is_due_is_renewed_and_no_other(harness: KubernetesHarness) -> None:
    provisioner, spec = provisioner_of(harness), asked(harness)
    made = await given(harness, provisioner, spec)
    first = await kubeconfig(provisioner, spec)
    await provisioner.extend(spec.key, spec.expires_at)
    assert await kubeconfig(provisioner, spec) == first
    due = {"metadata": {"annotations": {RENEW_AT: datetime.now(UTC).isoformat()}}}
    await harness.core.patch_namespaced_config_map(made.name, harness.namespace, due)

    await provisioner.extend(spec.key, spec.expires_at)

    second = await kubeconfig(provisioner, spec)
    assert second["users"] != first["users"]
    async with used(second) as api:
        assert all(await allowed(api, harness.namespace, made.name, OWN))
    found = await provisioner.find(spec.key)
    assert found is not None
    assert found.renew_at is not None
    assert found.renew_at > datetime.now(UTC)


async def test_one_that_was_not_finished_is_finished_by_the_next(
    harness: KubernetesHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner, spec, token = provisioner_of(harness), asked(harness), Client.token

    async def lost(client: Client, *about: Any) -> tuple[str, int]:
        await token(client, *about)
        raise Unavailable("The Kubernetes API cannot be reached.")

    monkeypatch.setattr(Client, "token", lost)
    with pytest.raises(Unavailable):
        await provisioner.ensure(spec, ignore)
    assert len([each for each in await harness.leftovers() if each.endswith("-kubeconfig")]) == 3
    monkeypatch.undo()

    made = await given(harness, provisioner_of(harness), spec)

    async with used(await kubeconfig(provisioner, spec)) as api:
        assert all(await allowed(api, harness.namespace, made.name, OWN))


async def test_an_extension_that_was_cut_off_is_gone_on_with(
    harness: KubernetesHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner, spec = provisioner_of(harness), asked(harness)
    await given(harness, provisioner, spec)
    later = spec.expires_at + HOUR

    async def lost(*_: Any) -> tuple[str, int]:
        raise Unavailable("The cluster does not let Moorage do this.")

    monkeypatch.setattr(Client, "token", lost)
    with pytest.raises(Transient):
        await provisioner.extend(spec.key, later)
    monkeypatch.undo()
    found = await provisioner.find(spec.key)
    assert found is not None
    assert found.renew_at is not None
    assert (found.expires_at, found.renew_at <= datetime.now(UTC)) == (later, True)

    await provisioner.extend(spec.key, later)

    assert nearly(runs_out(await kubeconfig(provisioner, spec)), later)


async def test_two_members_at_once_give_out_one_that_is_good_and_goes_with_the_anchor(
    harness: KubernetesHarness,
) -> None:
    spec = asked(harness)
    members = [provisioner_of(harness) for _ in range(2)]

    made = await asyncio.gather(*(given(harness, each, spec) for each in members * 2))

    assert len({each.native_id for each in made}) == 1
    assert len([each for each in await harness.leftovers() if each.endswith("-kubeconfig")]) == 4
    async with used(await kubeconfig(members[0], spec)) as api:
        assert all(await allowed(api, harness.namespace, made[0].name, OWN))
    await harness.core.delete_namespaced_config_map(made[0].name, harness.namespace)
    await harness.nothing_left()


async def test_moorage_gives_them_out_with_exactly_the_rules_for_it(
    harness: KubernetesHarness, kubernetes: Cluster, tmp_path: Path
) -> None:
    with kubernetes.namespace() as namespace:
        rules = [*NEEDED, *WELCOME, *KUBECONFIGS]
        account = kubernetes.account(namespace, written(rules), tmp_path / "kubeconfig")
        provisioner, spec = provisioner_of(harness, kubeconfig=str(account), namespace=namespace), asked(harness)
        findings = await provisioner.diagnose(Needs(kubeconfigs=frozenset({"web"})))
        assert errors(findings) == []
        await provisioner.ensure(spec, ignore)
        await provisioner.extend(spec.key, spec.expires_at + HOUR)
        await provisioner.remove(spec.key)
        requests = kubernetes.requests_of(namespace)
        wanted = {(verb, rule.group, rule.resource) for rule in KUBECONFIGS for verb in rule.verbs}
        allowed_of = {(verb, rule.group, rule.resource) for rule in rules for verb in rule.verbs}
        assert {each for each in requests if each[2] not in UNRESTRICTED} <= allowed_of
        handed_on = {each for each in wanted if each[2] in ("pods/exec", "pods/portforward")}
        collected = {each for each in wanted if each[0] == "delete"}  # by the cluster itself, if it is quick
        assert handed_on <= wanted - requests <= handed_on | collected


async def test_without_the_rules_for_it_doctor_names_them_and_only_these_starts_fail(
    harness: KubernetesHarness, kubernetes: Cluster, namespace: str, tmp_path: Path
) -> None:
    handed_on = [rule for rule in KUBECONFIGS if rule.resource.startswith("pods/")]
    rules = [*NEEDED, *(rule for rule in KUBECONFIGS if rule not in handed_on)]
    account = kubernetes.account(namespace, written(rules), tmp_path / "kubeconfig")
    provisioner = provisioner_of(harness, kubeconfig=str(account))

    missing = errors(await provisioner.diagnose(Needs(kubeconfigs=frozenset({"web"}))))

    assert [each.remedy for each in missing] == [f"Add to its Role: {rule}" for rule in handed_on]
    assert errors(await provisioner.diagnose(Needs())) == []
    with pytest.raises(Transient, match="rights that it lacks itself"):
        await provisioner.ensure(asked(harness), ignore)
    assert (await provisioner.ensure(harness.spec("r-2"), ignore)).access.kubectl is not None


async def test_who_may_not_take_kubeconfigs_back_any_more_removes_the_rest_and_the_cluster_these(
    harness: KubernetesHarness, kubernetes: Cluster, namespace: str, tmp_path: Path
) -> None:
    spec = asked(harness)
    await harness.provisioner().ensure(spec, ignore)
    account = kubernetes.account(namespace, written([*NEEDED, *WELCOME]), tmp_path / "kubeconfig")

    assert await provisioner_of(harness, kubeconfig=str(account)).remove(spec.key) is True

    async with asyncio.timeout(30):
        while await harness.leftovers():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_the_server_is_told_as_users_reach_it(harness: KubernetesHarness) -> None:
    server, spec = "https://api.labs.example.org:6443", asked(harness)
    provisioner = provisioner_of(harness, public_server=server)
    await given(harness, provisioner, spec)

    cluster = (await kubeconfig(provisioner, spec))["clusters"][0]["cluster"]

    assert cluster["server"] == server
    assert b"BEGIN CERTIFICATE" in base64.b64decode(cluster["certificate-authority-data"])
    with pytest.raises(ValueError, match="https://"):
        provisioner_of(harness, public_server="api.labs.example.org")


async def test_doctor_warns_of_a_server_that_users_do_not_reach(
    harness: KubernetesHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "in_cluster", True)
    needs = Needs(kubeconfigs=frozenset({"web"}))

    (finding,) = [each for each in await provisioner_of(harness).diagnose(needs) if each.subject == "template web"]

    assert finding.level is Level.WARNING
    assert finding.remedy is not None
    assert "MOORAGE_KUBERNETES_PUBLIC_SERVER" in finding.remedy
    public = provisioner_of(harness, public_server="https://api.labs.example.org")
    assert "template web" not in [each.subject for each in await public.diagnose(needs)]


@pytest.mark.parametrize(
    ("lasts", "seconds"), [(HOUR, 3600), (timedelta(minutes=1), 600), (-HOUR, 600), (timedelta(days=30), 7 * 24 * 3600)]
)
def test_a_token_holds_as_long_as_its_reservation_within_bounds(lasts: timedelta, seconds: int) -> None:
    assert token_seconds(NOON + lasts, NOON) == seconds


@pytest.mark.parametrize(("lasts", "seconds", "after"), [(HOUR, 3600, 3600), (HOUR, 1800, 1200), (-HOUR, 600, 600)])
def test_a_token_that_ends_before_its_reservation_is_renewed_in_time(
    lasts: timedelta, seconds: int, after: int
) -> None:
    assert renewal(NOON + lasts, NOON, seconds) == NOON + timedelta(seconds=after)


def test_without_an_authority_of_its_own_the_server_is_known_as_others_are() -> None:
    anchor = {"metadata": {"name": "r-1", "namespace": "labs"}}

    shown = yaml.safe_load(kubeconfig_of(anchor, server="https://labs", authority=None, token="t"))

    assert shown["clusters"] == [{"name": "r-1", "cluster": {"server": "https://labs"}}]


def test_what_somebody_else_wrote_for_a_time_means_now() -> None:
    facts = {"managed-by": "moorage", "moorage/reservation": "x"}
    anchor = {"metadata": {"labels": facts, "annotations": facts | {RENEW_AT: "soon"}}}
    due = renew_at(anchor)
    assert due is not None
    assert due < NOON


async def test_a_start_that_fails_takes_the_kubeconfig_back(harness: KubernetesHarness, proxy: ApiProxy) -> None:
    provisioner = provisioner_of(harness, kubeconfig=str(proxy.kubeconfig))
    spec = replace(asked(harness), labels=STUCK)
    ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
    await until(lambda: proxy.count(r"POST \S+/serviceaccounts/\S+/token") == 1)
    await harness.there(spec.name)
    await harness.end(spec.name, exit_code=3)

    with pytest.raises(Permanent, match="exit code 3"):
        await ensuring

    for kind in ("serviceaccounts", "rolebindings", "roles"):
        await until(lambda kind=kind: proxy.count(rf"DELETE \S+/{kind}/") == 1)  # the cluster would, in its own time
