"""An API server that is killed in the middle of starts and removals, and started again."""

import asyncio

import pytest

from consumer.handling.errors import Transient, Unavailable
from consumer.handling.ports import Environment, Status
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tests.services import Kubernetes

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


async def test_starts_and_endings_go_on_where_a_killed_api_server_left_them(
    harness: KubernetesHarness, kubernetes: Kubernetes
) -> None:
    if kubernetes.run_dir is None:
        pytest.skip("others use this cluster, too")
    provisioner = harness.provisioner()
    told: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(provisioner.watch(told.put_nowait))
    before = await provisioner.ensure(harness.spec("before"), ignore)

    interrupted = set()

    async def ensure(number: int) -> Environment:
        while True:
            try:
                return await provisioner.ensure(harness.spec(f"r-{number}"), ignore)
            except (Unavailable, Transient):
                interrupted.add(number)
                await asyncio.sleep(0.2)

    starts = [asyncio.create_task(ensure(number)) for number in range(10)]
    await asyncio.sleep(0)
    outage = kubernetes.outage()
    await asyncio.to_thread(outage.__enter__)
    with pytest.raises(Unavailable):
        await provisioner.ping()
    await asyncio.to_thread(outage.__exit__, None, None, None)

    made = await asyncio.gather(*starts)

    assert interrupted
    assert {each.status for each in made} == {Status.RUNNING}
    assert len({each.key for each in await provisioner.list()}) == 11
    pods = (await harness.core.list_namespaced_pod(harness.namespace)).items
    assert len(pods) == 11, "one for each"
    await harness.stop(before)
    async with asyncio.timeout(40):
        assert await told.get() == "before"
    watching.cancel()
