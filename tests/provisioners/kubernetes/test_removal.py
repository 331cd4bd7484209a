"""In which order the parts of an environment go."""

import asyncio
from datetime import timedelta

import pytest

from consumer.catalog.environment import Readiness
from consumer.handling.errors import Permanent
from consumer.handling.ports import Status
from tests.provisioners.harness import ignore, until
from tests.provisioners.kubernetes.harness import STUCK, KubernetesHarness
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


@pytest.mark.parametrize("meanwhile", ["made anew", "extended", "removed"])
async def test_a_member_that_heard_nothing_for_a_while_removes_what_there_is_and_not_what_it_knew(
    harness: KubernetesHarness, proxy: ApiProxy, meanwhile: str
) -> None:
    deaf, other, spec = (
        harness.provisioner_with(kubeconfig=str(proxy.kubeconfig)),
        harness.provisioner(),
        harness.spec(),
    )
    await other.ensure(spec, ignore)
    await deaf.ensure(harness.spec("r-2"), ignore)
    await deaf.remove(harness.spec("r-2").key)
    await until(lambda: proxy.count(WATCH) >= 2)  # what there is has been told
    proxy.on(WATCH, "hang", times=1000)
    proxy.cut_watches()

    if meanwhile == "extended":
        await other.extend(spec.key, spec.expires_at + timedelta(hours=1))
    else:
        await other.remove(spec.key)
    if meanwhile == "made anew":
        await other.ensure(spec, ignore)

    assert await deaf.remove(spec.key) is (meanwhile != "removed")
    assert await harness.leftovers() == []


async def hold(harness: KubernetesHarness, name: str, finalizers: list[str] | None) -> None:
    body = {"metadata": {"finalizers": finalizers}}
    await harness.core.patch_namespaced_pod(name, harness.namespace, body, _content_type="application/merge-patch+json")
