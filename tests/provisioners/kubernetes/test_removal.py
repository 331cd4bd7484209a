"""In which order the parts of an environment go."""

import asyncio
from dataclasses import replace

import pytest

from consumer.catalog.environment import Readiness
from consumer.handling.errors import Permanent
from consumer.handling.ports import Status
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


async def test_a_volume_of_an_earlier_attempt_goes_with_its_reservation(harness: KubernetesHarness) -> None:
    provisioner = harness.provisioner_with(storage_class=harness.instance)
    await harness.storage()
    spec = harness.spec(volume=volume_of(harness, "r-1"))
    await provisioner.ensure(spec, ignore)
    await provisioner.remove(spec.key, keep=True)
    await provisioner.ensure(replace(spec, volume=None), ignore)

    assert await provisioner.remove(spec.key)
    assert await harness.leftovers() == []


async def hold(harness: KubernetesHarness, name: str, finalizers: list[str] | None) -> None:
    body = {"metadata": {"finalizers": finalizers}}
    await harness.core.patch_namespaced_pod(name, harness.namespace, body, _content_type="application/merge-patch+json")
