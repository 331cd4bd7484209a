"""In which order the parts of an environment go."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from consumer.catalog.environment import Readiness
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Status
from consumer.provisioners.kubernetes.kinds import CLAIM, Kind
from consumer.provisioners.kubernetes.objects import Objects
from tests.provisioners.harness import ignore, until
from tests.provisioners.kubernetes.harness import STUCK, KubernetesHarness, volume_of
from tests.provisioners.kubernetes.proxy import ApiProxy

pytestmark = pytest.mark.kubernetes

WATCH = r"GET \S+watch=true"


async def test_what_keeps_a_pod_in_its_place_stays_until_it_is_gone(harness: KubernetesHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()
    await provisioner.ensure(spec, ignore)
    await hold(harness, spec.name, ["moorage.test/stays"])

    removing = asyncio.create_task(provisioner.remove(spec.key))
    while (await harness.there(spec.name)).metadata.deletion_timestamp is None:  # noqa: ASYNC110 - the API has no event
        await asyncio.sleep(0.02)

    kinds = {each.split()[0] for each in await harness.leftovers()}
    assert {"V1ConfigMap", "V1Pod", "V1NetworkPolicy"} <= kinds
    found = await provisioner.find(spec.key)
    assert found is not None
    assert found.status is Status.DYING, "it is still in use"
    await hold(harness, spec.name, None)
    assert await removing
    assert await harness.leftovers() == []


async def test_a_start_that_failed_is_told_at_once_and_removed_in_the_same_order(harness: KubernetesHarness) -> None:
    provisioner, loop = harness.provisioner_with(gone_timeout=60), asyncio.get_running_loop()
    spec = harness.spec(labels=STUCK, ready=Readiness(port=8080, within=0.5))
    ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
    await harness.there(spec.name)
    await hold(harness, spec.name, ["moorage.test/stays"])
    await harness.runs(spec.name, ready=False)

    began = loop.time()
    with pytest.raises(Permanent) as error:
        await ensuring

    assert error.value.code == "not_ready"
    assert loop.time() - began < 30, "the pod is still there, and nobody waits for it"
    assert (await harness.there(spec.name)).metadata.deletion_timestamp is not None
    kinds = {each.split()[0] for each in await harness.leftovers()}
    assert {"V1ConfigMap", "V1Pod", "V1NetworkPolicy"} <= kinds
    await hold(harness, spec.name, None)
    await harness.nothing_left()


async def test_who_comes_late_with_a_removal_leaves_what_was_made_anew_meanwhile_alone(
    harness: KubernetesHarness, proxy: ApiProxy
) -> None:
    late, other, spec = (
        harness.provisioner_with(kubeconfig=str(proxy.kubeconfig)),
        harness.provisioner(),
        harness.spec(),
    )
    await other.ensure(spec, ignore)
    await hold(harness, spec.name, ["moorage.test/stays"])
    proxy.on(WATCH, "hang", times=1000)
    removing = asyncio.create_task(late.remove(spec.key))
    await until(lambda: proxy.count(r"GET \S+/pods/") >= 4)  # by now it looks every other second
    removing_too = asyncio.create_task(other.remove(spec.key))
    await hold(harness, spec.name, None)
    await removing_too
    made = await other.ensure(spec, ignore)
    there = await harness.leftovers()

    await removing

    assert await harness.leftovers() == there
    assert await other.find(spec.key) == made


async def test_who_fails_late_leaves_what_was_made_anew_meanwhile_alone(
    harness: KubernetesHarness, proxy: ApiProxy
) -> None:
    late, other = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig)), harness.provisioner()
    proxy.on(WATCH, "hang", times=1000)
    spec = harness.spec(labels=STUCK)
    starting = asyncio.create_task(late.ensure(spec, ignore))
    await harness.there(spec.name)
    await other.remove(spec.key)
    made = await other.ensure(replace(spec, labels={}), ignore)
    there = await harness.leftovers()

    with pytest.raises(Transient, match="deleted while it was being started"):
        await starting

    assert await harness.leftovers() == there
    assert await other.find(spec.key) == made


async def test_a_volume_of_an_earlier_attempt_goes_with_its_reservation(harness: KubernetesHarness) -> None:
    provisioner = harness.provisioner_with(storage_class=harness.instance)
    await harness.storage()
    spec = harness.spec(volume=volume_of(harness, "r-1"))
    await provisioner.ensure(spec, ignore)
    await provisioner.remove(spec.key, keep=True)
    await provisioner.ensure(replace(spec, volume=None), ignore)

    assert await provisioner.remove(spec.key)
    assert await harness.leftovers() == []


async def test_a_removal_that_fails_leaves_no_request_under_way(harness: KubernetesHarness, proxy: ApiProxy) -> None:
    provisioner, spec = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig)), harness.spec()
    await provisioner.ensure(spec, ignore)
    services = r"DELETE \S+/services\?"
    proxy.refuse(r"DELETE \S+/secrets\?", 500)
    proxy.refuse(services, 429, headers=b"Retry-After: 1\r\n")

    with pytest.raises(Transient):
        await provisioner.remove(spec.key)

    assert proxy.count(services) == 2, "what came later would strike what is made next"
    assert await provisioner.remove(spec.key)


async def test_a_volume_that_is_made_after_its_reservation_was_removed_goes_again(
    harness: KubernetesHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.storage()
    spec = harness.spec(volume=volume_of(harness, "r-1"))
    late, other = harness.provisioner_with(storage_class=harness.instance), harness.provisioner()
    create = Objects.create

    async def slowly(objects: Objects, kind: Kind, body: dict[str, Any]) -> Any:
        if kind is CLAIM:
            await other.remove(spec.key)
        return await create(objects, kind, body)

    monkeypatch.setattr(Objects, "create", slowly)
    with pytest.raises(Transient, match="removed while it was being made"):
        await late.ensure(spec, ignore)

    await harness.nothing_left()


async def hold(harness: KubernetesHarness, name: str, finalizers: list[str] | None) -> None:
    body = {"metadata": {"finalizers": finalizers}}
    await harness.core.patch_namespaced_pod(name, harness.namespace, body, _content_type="application/merge-patch+json")
