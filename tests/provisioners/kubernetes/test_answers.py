"""What the answers of an API server mean, and what becomes of those that nobody expected."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from consumer.catalog.environment import Volume
from consumer.catalog.needs import Needs
from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Level
from consumer.provisioners.kubernetes import KubernetesOptions, KubernetesProvisioner
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.diagnosis import diagnose
from consumer.provisioners.kubernetes.errors import Answer, Conflicting, Expired, Missing, NotYet, meaning_of
from consumer.provisioners.kubernetes.kinds import ANCHOR, POD, SERVICE
from consumer.provisioners.kubernetes.objects import Objects
from consumer.provisioners.kubernetes.volumes import Volumes
from consumer.provisioners.kubernetes.watching import Watch
from tests.provisioners.kubernetes.harness import KubernetesHarness

OPTIONS = KubernetesOptions("x", kubeconfig=__file__, request_timeout=5.0)


@pytest.mark.parametrize(
    ("status", "message", "expected", "code"),
    [
        (403, 'pods "x" is forbidden: status unknown for quota: q, resources: pods', NotYet, "runtime_busy"),
        (403, 'pods "x" is forbidden: not yet ready to handle request', NotYet, "runtime_busy"),
        (403, 'pods "x" is forbidden: failed quota: q: must specify limits.cpu', Permanent, "invalid_spec"),
        (403, 'pods "x" is forbidden: exceeded quota: q, requested: pods=1', Transient, "runtime_full"),
        (403, 'pods "x" is forbidden: no such class', Permanent, "invalid_spec"),
        (500, "etcdserver: request timed out", Unavailable, "runtime_unavailable"),
        (500, "failed calling webhook: etcdserver: x", Transient, "runtime_error"),
        (504, "Timeout: request did not complete", Unavailable, "runtime_unavailable"),
    ],
)
def test_an_answer_has_its_meaning(status: int, message: str, expected: type[ProvisionerError], code: str) -> None:
    meaning = meaning_of(status, {"kind": "Status", "message": message}, None)

    assert type(meaning) is expected
    assert meaning.code == code


@pytest.mark.parametrize("answer", [Expired(), Conflicting(), Missing()])
async def test_an_answer_that_nobody_expected_is_tried_again(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    answering(monkeypatch, answer, times=100)
    provisioner = KubernetesProvisioner(OPTIONS)

    for call in (provisioner.find("k"), provisioner.remove("k"), provisioner.list(), provisioner.usage("k")):
        with pytest.raises(Transient) as error:
            await call
        assert error.value.code == "runtime_busy"
    with pytest.raises(Unavailable):
        await provisioner.ping()


async def test_a_list_whose_rest_is_forgotten_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    first = page("a", more="token")
    answering(monkeypatch, first, Expired(), first, page("b"))

    found, _ = await Client(OPTIONS).snapshot(POD, "", "default")

    assert [each["metadata"]["name"] for each in found] == ["a", "b"]


class Contradicting(Client):
    """Of a cluster in which all names are taken, and nothing is there."""

    asked = 0

    async def create(self, *_: Any) -> Any:
        self.asked += 1
        raise Conflicting

    async def get(self, *_: Any) -> None:
        return None


async def test_what_can_neither_be_made_nor_found_is_not_asked_for_without_end() -> None:
    client = Contradicting(OPTIONS)

    with pytest.raises(Transient, match="neither be made nor found"):
        await Objects(client, {}, gone_timeout=0.2).have(SERVICE, {"metadata": {"name": "x"}}, {})

    assert client.asked < 10


async def test_nor_is_a_volume() -> None:
    client, options = Contradicting(OPTIONS), replace(OPTIONS, gone_timeout=0.2)
    spec = KubernetesHarness("", "x").spec(volume=Volume("v-1", "1", "/data", {}))

    with pytest.raises(Transient, match="The volume v-1 can neither be made nor found"):
        await Volumes(client, Objects(client, {}, gone_timeout=0.2), options).ensure(
            spec, {"metadata": {"namespace": "x"}}
        )

    assert client.asked < 10


async def test_a_watch_outlives_what_nobody_thought_of() -> None:
    class Odd(Client):
        async def snapshot(self, *_: Any) -> Any:
            nonlocal lists
            lists += 1
            if lists == 1:
                raise RuntimeError("nobody thought of it")
            again.set()
            return [], "1"

        async def watch(self, *_: Any) -> Any:
            await asyncio.get_running_loop().create_future()
            yield

    lists, again = 0, asyncio.Event()
    watch = Watch(Odd(OPTIONS), ANCHOR, "", "default")
    watch.listen(lambda *_: None)

    async with asyncio.timeout(30):
        await again.wait()
    await watch.close()


async def test_who_may_not_ask_what_environments_use_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def version(_: Any) -> str:
        return "v1"

    async def may(_: Any, verb: str, group: str, *about: Any) -> bool:
        if group == "metrics.k8s.io":
            raise Unavailable("The Kubernetes API does not answer in time.")
        return True

    monkeypatch.setattr(Client, "version", version)
    monkeypatch.setattr(Client, "may", may)
    answering(monkeypatch, {"metadata": {}}, {}, {"items": [], "metadata": {"resourceVersion": "1"}})

    findings = await diagnose(Client(OPTIONS), OPTIONS, Needs())

    assert ("metrics", Level.WARNING) in [(finding.subject, finding.level) for finding in findings]


def page(name: str, more: str = "") -> dict[str, Any]:
    return {"items": [{"metadata": {"name": name}}], "metadata": {"continue": more, "resourceVersion": "1"}}


def answering(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any] | Answer, times: int = 1) -> None:
    """Have any server asked answer so, one after the other, and `times` over."""
    left: Iterator[dict[str, Any] | Answer] = iter(answers * times)

    async def ask(*_: Any, **__: Any) -> dict[str, Any]:
        if isinstance(answer := next(left), Answer):
            raise answer
        return answer

    monkeypatch.setattr(Client, "ask", ask)
