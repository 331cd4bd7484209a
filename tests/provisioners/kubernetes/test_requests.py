"""How often the API server is asked for one environment that nobody disturbs."""

import pytest

from tests.provisioners.harness import ignore, until
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tests.provisioners.kubernetes.proxy import ApiProxy

pytestmark = pytest.mark.kubernetes

WATCH = r"GET \S+watch=true"
LIST = r"GET \S+\?labelSelector"
MADE = {"POST": 5, LIST: 1}
"""Its five objects, and whether somebody else made it too."""

REMOVED = {"POST": 0, "DELETE": 5, LIST: 2}
"""One for each kind; and which anchors and volumes there are."""


async def test_an_environment_costs_few_requests(harness: KubernetesHarness, proxy: ApiProxy) -> None:
    provisioner = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig))
    first, second = harness.spec("r-1"), harness.spec("r-2")
    await provisioner.ensure(first, ignore)
    await provisioner.remove(first.key)
    await until(lambda: proxy.count(WATCH) >= 2)  # both have looked, and go on
    before = {each: proxy.count(each) for each in ("POST", "DELETE", LIST)}

    await provisioner.ensure(second, ignore)

    made = {each: proxy.count(each) - count for each, count in before.items()}
    await provisioner.remove(second.key)
    removed = {each: proxy.count(each) - count - made[each] for each, count in before.items()}
    assert made == MADE | {"DELETE": 0}
    assert removed == REMOVED


async def test_what_an_environment_uses_costs_two_requests(harness: KubernetesHarness, proxy: ApiProxy) -> None:
    provisioner = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig))
    made = await provisioner.ensure(harness.spec(), ignore)
    await harness.measure(made)
    await until(lambda: proxy.count(WATCH) >= 1)
    before = proxy.count("GET")

    used = await provisioner.usage(made.key)

    assert used is not None
    assert proxy.count("GET") - before == 2
