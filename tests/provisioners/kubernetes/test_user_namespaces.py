"""A namespace for each user, on a real API server: made when it is needed, and kept as settings have it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.security import Security
from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.handling.ports import Environment, Status
from consumer.provisioners.kubernetes import UserNamespaces
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.user_namespaces import bounds_of, namespace_name
from schemas.events import User
from tests.provisioners.conformance import SurvivalConformance
from tests.provisioners.harness import ALICE, ignore
from tests.provisioners.kubernetes.harness import KubernetesHarness, volume_of
from tests.provisioners.kubernetes.proxy import ApiProxy
from tests.provisioners.kubernetes.users import LIMITS, QUOTA, UsersHarness
from tests.services import Kubernetes

pytestmark = pytest.mark.kubernetes

BOB = User("用户/../", "Bob")
APPLY = "consumer.provisioners.kubernetes.client:Client.apply"


@pytest.fixture
async def harness(kubernetes: Kubernetes) -> AsyncIterator[UsersHarness]:
    harness = UsersHarness(str(kubernetes.kubeconfig))
    await harness.connect()
    yield harness
    assert await harness.clean_up() == []


class TestKubernetesWithUserNamespaces:
    """What is different with them; the rest is the same code as with one namespace."""

    test_found = SurvivalConformance.test_what_was_ensured_is_found_listed_and_removed
    test_usage = SurvivalConformance.test_what_runs_tells_what_it_uses
    test_at_once = SurvivalConformance.test_ensuring_at_once_makes_one
    test_instances = SurvivalConformance.test_two_instances_do_not_see_each_other
    test_removed_at_once = SurvivalConformance.test_ensure_and_remove_at_once_end_with_one_or_none


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,37}[a-z0-9])?", fullmatch=True), st.text(), st.text())
def test_any_user_has_a_namespace_whose_name_is_valid_and_nobody_elses(prefix: str, user_id: str, other: str) -> None:
    options = KubernetesOptions("i", prefix, users=UserNamespaces())

    name = namespace_name(options.namespace, options.instance, user_id)

    KubernetesOptions("i", name)
    assert name.startswith(f"{prefix}-")
    assert (name == namespace_name(prefix, "i", other)) is (user_id == other)
    assert name != namespace_name(prefix, "j", user_id)


@pytest.mark.parametrize(
    ("quota", "set_aside"),
    [({"pods": "20"}, {"ephemeral-storage": "0"}), ({"requests.ephemeral-storage": "40Gi"}, None)],
)
def test_no_disk_is_set_aside_for_who_asks_for_none_unless_a_quota_counts_it(
    quota: dict[str, str], set_aside: dict[str, str] | None
) -> None:
    bounds = {kind.name: each["spec"] for kind, each in bounds_of("n", UserNamespaces(quota=quota, limits=LIMITS))}

    assert bounds["LimitRange"]["limits"][0].get("defaultRequest") == set_aside


async def test_each_user_has_a_namespace_with_bounds_and_the_level_of_pod_security(harness: UsersHarness) -> None:
    provisioner = harness.provisioner()
    alices, bobs = await ensured_for_both(harness)

    found = await harness.namespaces()

    assert found.keys() == {harness.namespace, harness.namespace_of(BOB.id)}
    labels, annotations = (found[harness.namespace_of(BOB.id)]["metadata"][part] for part in ("labels", "annotations"))
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")} == {"restricted"}
    assert (labels["managed-by"], labels["moorage/instance"]) == ("moorage", harness.instance)
    assert annotations["moorage/user-id"] == BOB.id
    for name in found:
        quota, limits, policy = await harness.bounds(name)
        assert quota == {"hard": QUOTA}
        assert limits["limits"][0]["default"] == LIMITS
        assert limits["limits"][0]["defaultRequest"] == LIMITS | {"ephemeral-storage": "0"}
        assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    pods = (await harness.core.list_namespaced_pod(harness.namespace)).items
    assert [each.metadata.name for each in pods] == [alices.name]
    assert {each.key for each in await provisioner.list()} == {alices.key, bobs.key}
    whose = f"managed-by=moorage,moorage/instance={harness.instance},moorage/user-id={ALICE.id}"
    (alices_own,) = (await harness.core.list_namespace(label_selector=whose)).items
    assert alices_own.metadata.name == harness.namespace


async def test_a_service_is_told_with_the_users_namespace(harness: UsersHarness) -> None:
    made = await harness.provisioner_with(service="cluster").ensure(harness.spec(), ignore)

    assert made.access.host == f"{made.name}.{harness.namespace}.svc"


async def test_who_ends_in_any_namespace_is_told_of(harness: UsersHarness) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(harness.provisioner().watch(told.put_nowait))
    _, bobs = await ensured_for_both(harness)
    harness.namespace = harness.namespace_of(BOB.id)

    await harness.stop(bobs)

    async with asyncio.timeout(30):
        assert await told.get() == bobs.reservation_id
    watching.cancel()


async def test_what_pod_security_does_not_let_in_is_told(harness: UsersHarness) -> None:
    spec = harness.spec(security=Security(user="0"))

    with pytest.raises(Permanent, match="Pod Security does not allow") as error:
        await harness.provisioner().ensure(spec, ignore)

    assert error.value.code == "invalid_spec"
    baseline = replace(harness.users, pod_security="baseline")
    await harness.provisioner_with(users=baseline).ensure(spec, ignore)


async def test_a_quota_that_has_no_room_is_told_and_holds_for_its_user_alone(harness: UsersHarness) -> None:
    provisioner = harness.provisioner_with(users=replace(harness.users, quota={"pods": "1"}))
    await provisioner.ensure(harness.spec("r-1"), ignore)

    with pytest.raises(Transient, match="quota has no room") as error:
        await provisioner.ensure(harness.spec("r-2"), ignore)

    assert error.value.code == "runtime_full"
    await provisioner.ensure(harness.spec("r-3", user=BOB), ignore)


async def test_a_pod_without_limits_gets_those_of_the_namespace(harness: UsersHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec(), ignore)

    assert (await harness.pod(made))["spec"]["containers"][0]["resources"]["limits"] == LIMITS


async def test_settings_that_changed_hold_from_the_next_start_and_others_write_nothing(harness: UsersHarness) -> None:
    async def versions() -> list[str]:
        about = [
            await harness.core.read_namespace(harness.namespace),
            await harness.core.read_namespaced_limit_range("moorage", harness.namespace),
        ]
        return [each.metadata.resource_version for each in about]

    await harness.provisioner().ensure(harness.spec("r-1"), ignore)
    before = await versions()
    await harness.provisioner().ensure(harness.spec("r-2"), ignore)
    assert await versions() == before

    changed = UserNamespaces("baseline", {"pods": "7"})
    await harness.provisioner_with(users=changed).ensure(harness.spec("r-3"), ignore)

    labels = (await harness.namespaces())[harness.namespace]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"
    quota, limits, _ = await harness.bounds(harness.namespace)
    assert (quota, limits) == ({"hard": {"pods": "7"}}, {"limits": [{"type": "Container"}]})


async def test_a_namespace_that_somebody_else_made_is_left_alone(harness: UsersHarness) -> None:
    await harness.core.create_namespace({"metadata": {"name": harness.namespace}})

    with pytest.raises(Permanent, match="not one that Moorage made for this user") as error:
        await harness.provisioner().ensure(harness.spec(), ignore)

    assert error.value.code == "conflict"
    labels = (await harness.namespaces())[harness.namespace]["metadata"]["labels"]
    assert labels == {"kubernetes.io/metadata.name": harness.namespace}


async def test_a_namespace_that_is_being_deleted_is_waited_for_and_made_again(harness: UsersHarness) -> None:
    await harness.provisioner().ensure(harness.spec("r-1"), ignore)
    before = (await harness.namespaces())[harness.namespace]["metadata"]["uid"]
    held = {"metadata": {"name": "held", "finalizers": ["moorage.test/held"]}}
    await harness.core.create_namespaced_config_map(harness.namespace, held)
    await harness.core.delete_namespace(harness.namespace)

    with pytest.raises(Transient, match="still being removed"):
        await harness.provisioner_with(gone_timeout=0.3).ensure(harness.spec("r-2"), ignore)
    ensuring = asyncio.create_task(harness.provisioner_with(gone_timeout=45).ensure(harness.spec("r-2"), ignore))
    await harness.core.patch_namespaced_config_map("held", harness.namespace, {"metadata": {"finalizers": None}})

    made = await ensuring
    assert (await harness.namespaces())[harness.namespace]["metadata"]["uid"] != before
    assert await harness.provisioner().list() == [made]


async def test_a_namespace_that_goes_during_a_start_is_one_users_trouble(
    harness: UsersHarness, proxy: ApiProxy, namespace: str
) -> None:
    said = f"unable to create new content in namespace {harness.namespace} because it is being terminated"
    proxy.refuse(r"POST \S+/configmaps", 403, f'configmaps "x" is forbidden: {said}', times=2)
    apart = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig))
    together = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig), users=None, namespace=namespace)

    with pytest.raises(Transient, match="was deleted while it was used"):
        await apart.ensure(harness.spec(), ignore)
    with pytest.raises(Unavailable, match="is being deleted"):
        await together.ensure(harness.spec(), ignore)

    await apart.ensure(harness.spec(), ignore)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("pods", 'error looking up service account x/default: serviceaccount "default" not found'),
        ("configmaps", "status unknown for quota: moorage, resources: configmaps"),
    ],
)
async def test_what_a_new_namespace_has_not_got_ready_yet_is_waited_for(
    harness: UsersHarness, proxy: ApiProxy, part: str, said: str
) -> None:
    proxy.refuse(rf"POST \S+/{part}", 403, f'{part} "x" is forbidden: {said}', times=2)

    made = await harness.provisioner_with(kubeconfig=str(proxy.kubeconfig)).ensure(harness.spec(), ignore)

    assert made.status is Status.RUNNING
    assert proxy.count(rf"POST \S+/{part}") >= 3


async def test_what_a_kill_left_out_of_a_namespace_is_made_before_anything_runs_in_it(harness: UsersHarness) -> None:
    assert await harness.ensure_elsewhere(harness.spec(), die=f"{APPLY}:before") == ""
    assert (await harness.core.list_namespaced_resource_quota(harness.namespace)).items == []
    assert await harness.leftovers() == []

    await harness.provisioner().ensure(harness.spec(), ignore)

    quota, _, _ = await harness.bounds(harness.namespace)
    assert quota == {"hard": QUOTA}


async def test_members_that_need_a_namespace_at_once_make_one(harness: UsersHarness) -> None:
    members = [harness.provisioner() for _ in range(4)]
    specs = [harness.spec(f"r-{number}") for number in range(4)]

    await asyncio.gather(*(member.ensure(spec, ignore) for member, spec in zip(members, specs, strict=True)))

    assert (await harness.namespaces()).keys() == {harness.namespace}


async def test_a_users_volume_is_found_again_in_the_users_namespace(harness: UsersHarness) -> None:
    await harness.storage()
    provisioner = harness.provisioner_with(storage_class=harness.instance)
    volume = volume_of(harness)
    await provisioner.ensure(harness.spec("r-1", volume=volume), ignore)
    await provisioner.remove(harness.spec("r-1").key)
    (before,) = await claims(harness)

    await provisioner.ensure(harness.spec("r-2", volume=volume), ignore)

    assert [each.metadata.uid for each in await claims(harness)] == [before.metadata.uid]
    await provisioner.remove(harness.spec("r-2").key)
    await harness.core.delete_namespaced_persistent_volume_claim(volume.name, harness.namespace)


async def test_what_was_made_in_the_namespace_of_all_stays_there_and_is_found_and_removed(
    harness: UsersHarness, namespace: str
) -> None:
    shared = KubernetesHarness(harness.kubeconfig, namespace)
    shared.instance, shared.api = harness.instance, harness.api
    before = shared.provisioner()
    made = await before.ensure(shared.spec(), ignore)
    await before.close()
    assert await harness.provisioner().list() == [], "another installation's"
    harness.prefix = namespace
    provisioner = harness.provisioner()

    assert await provisioner.list() == [made]
    assert await provisioner.ensure(shared.spec(), ignore) == made
    assert await harness.namespaces() == {}
    assert await provisioner.remove(made.key) is True
    assert await shared.leftovers() == []


async def ensured_for_both(harness: UsersHarness) -> tuple[Environment, Environment]:
    """An environment of Alice's and one of Bob's."""
    provisioner = harness.provisioner()
    specs = (harness.spec("r-1"), harness.spec("r-2", user=BOB))
    alices, bobs = await asyncio.gather(*(provisioner.ensure(spec, ignore) for spec in specs))
    return alices, bobs


async def claims(harness: UsersHarness) -> list[Any]:
    found: list[Any] = (await harness.core.list_namespaced_persistent_volume_claim(harness.namespace)).items
    return found
