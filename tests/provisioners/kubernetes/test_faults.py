"""An API server that errs, is busy or away, does the work and loses the reply, or forgets what it told."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from consumer.catalog.needs import Needs
from consumer.dispatch import RetryPolicy
from consumer.handling.errors import Transient, Unavailable
from consumer.handling.ports import Level, Provisioner, Status
from tests.provisioners.docker.proxy import Action
from tests.provisioners.harness import ignore, until
from tests.provisioners.kubernetes.harness import STUCK, KubernetesHarness
from tests.provisioners.kubernetes.proxy import ApiProxy

pytestmark = pytest.mark.kubernetes

ANCHORS, PODS, SERVICES = (rf"POST \S+/{kind}" for kind in ("configmaps", "pods", "services"))
LIST = r"GET \S+/configmaps\?labelSelector"
WATCH = r"GET \S+/pods\?\S*watch=true"


@pytest.fixture
def provisioner(harness: KubernetesHarness, proxy: ApiProxy) -> Provisioner:
    return harness.provisioner_with(kubeconfig=str(proxy.kubeconfig))


@asynccontextmanager
async def endings(provisioner: Provisioner) -> AsyncIterator["asyncio.Queue[str]"]:
    told: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(provisioner.watch(told.put_nowait))
    yield told
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize(
    ("lost", "how"),
    [(ANCHORS, "lose_reply"), (PODS, "lose_reply"), (PODS, "cut_reply"), (SERVICES, "lose_reply")],
)
async def test_when_the_reply_is_lost_looking_tells(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner, lost: str, how: Action
) -> None:
    proxy.on(lost, how)

    made = await provisioner.ensure(harness.spec(), ignore)

    assert made.status is Status.RUNNING
    assert proxy.count(lost) == 1


@pytest.mark.parametrize(("refused", "begun"), [(ANCHORS, 0), (LIST, 1)])
async def test_an_api_that_hangs_up_is_unavailable(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner, refused: str, begun: int
) -> None:
    proxy.on(refused, "refuse", times=3)

    with pytest.raises(Unavailable, match="cannot be reached"):
        await provisioner.ensure(harness.spec(), ignore)

    assert len(await harness.leftovers()) == begun
    await harness.provisioner().ensure(harness.spec(), ignore)
    assert len(await harness.leftovers()) == 5, "what was begun is gone on with"


@pytest.mark.timeout(150)
async def test_at_five_seconds_a_request_two_members_make_one_environment_and_nothing_is_left(
    harness: KubernetesHarness, proxy: ApiProxy
) -> None:
    proxy.latency = 5.0
    members = [harness.provisioner_with(kubeconfig=str(proxy.kubeconfig)) for _ in range(2)]
    spec = harness.spec()

    made = await asyncio.gather(*(member.ensure(spec, ignore) for member in members))

    assert made[0] == made[1]
    assert made[0].status is Status.RUNNING
    assert len(await harness.leftovers()) == 5
    assert any(await asyncio.gather(*(member.remove(spec.key) for member in members)))
    assert await harness.leftovers() == []


@pytest.mark.parametrize("silent", [PODS, LIST])
async def test_an_api_that_falls_silent_is_unavailable(
    harness: KubernetesHarness, proxy: ApiProxy, silent: str
) -> None:
    proxy.on(silent, "hang")
    impatient = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig), request_timeout=1.0)

    with pytest.raises(Unavailable, match="in time"):
        await impatient.ensure(harness.spec(), ignore)
    assert proxy.count("DELETE") == 0, "another member may be at it"


async def test_two_members_that_call_it_differently_make_one_environment(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner
) -> None:
    spec = harness.spec()
    made = await harness.provisioner().ensure(spec, ignore)

    again = await provisioner.ensure(replace(spec, name=f"{spec.name}-x"), ignore)

    assert proxy.count(ANCHORS) == 1
    assert again == made
    assert len(await harness.leftovers()) == 5


@pytest.mark.parametrize("failing", [ANCHORS, PODS])
async def test_an_api_that_errs_is_worth_another_try_and_nothing_is_left(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner, failing: str
) -> None:
    proxy.refuse(failing, 500, "panic at /etcd/secret.go")

    with pytest.raises(Transient) as error:
        await provisioner.ensure(harness.spec(), ignore)

    assert error.value.code == "runtime_error"
    assert "etcd" not in error.value.message
    await harness.nothing_left()
    assert (await provisioner.ensure(harness.spec(), ignore)).status is Status.RUNNING


@pytest.mark.parametrize("busy", [PODS, LIST])
async def test_a_busy_api_is_asked_again_when_it_says_so(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner, busy: str
) -> None:
    proxy.refuse(busy, 429, "too many requests", headers=b"Retry-After: 1\r\n")
    began = time.monotonic()

    made = await provisioner.ensure(harness.spec(), ignore)

    assert made.status is Status.RUNNING
    assert time.monotonic() - began >= 1.0


async def test_an_api_that_stays_busy_is_left_alone_for_as_long_as_it_says(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.provisioners.kubernetes.client._LONGEST_WAIT", 0.01)
    proxy.refuse(LIST, 429, "too many requests", times=20, headers=b"Retry-After: 7\r\n")

    with pytest.raises(Transient) as error:
        await provisioner.find(harness.spec().key)

    assert (error.value.code, error.value.retry_after) == ("runtime_busy", 7.0)


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (200, b"<html>Welcome to nginx</html>"),
        (200, b"[]"),
        (200, b"{"),
        (200, b'{"items": 7}'),
        (404, b"404 page not found"),
        (403, b"login first"),
        (302, b""),
        (503, b"no healthy upstream"),
    ],
)
async def test_what_is_no_api_is_unavailable(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner, status: int, raw: bytes
) -> None:
    proxy.answer("", status, "", times=100, raw=raw)
    spec = harness.spec()

    for call in (
        provisioner.ping(),
        provisioner.list(),
        provisioner.find(spec.key),
        provisioner.remove(spec.key),
        provisioner.ensure(spec, ignore),
    ):
        with pytest.raises(Unavailable):
            await call


async def test_a_watch_is_not_sent_away_for_long(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.provisioners.kubernetes.watching._LONGEST_WAIT", 0.1)
    proxy.refuse(WATCH, 500, headers=b"Retry-After: 86400\r\n")
    async with endings(provisioner) as told:
        await until(lambda: proxy.count(WATCH) >= 2)
        made = await provisioner.ensure(harness.spec(), ignore)
        await harness.stop(made)

        async with asyncio.timeout(30):
            assert await told.get() == harness.spec().reservation_id


async def test_a_watch_that_told_nothing_looks_at_all_of_it_anew(proxy: ApiProxy, provisioner: Provisioner) -> None:
    proxy.answer(WATCH, 200, "", raw=b"")
    async with endings(provisioner):
        await until(lambda: proxy.count(WATCH) >= 2)

    looks = proxy.count(r"GET \S+/pods\?labelSelector") - proxy.count(WATCH)
    assert looks == 2, "not even a bookmark came: the server may be back from a backup"


async def test_a_watch_that_fails_again_and_again_looks_at_all_of_it_anew(
    proxy: ApiProxy, provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickly = RetryPolicy(max_attempts=1000, max_elapsed=float("inf"), base_delay=0.01, max_delay=0.01)
    monkeypatch.setattr("consumer.provisioners.kubernetes.watching._KEEP_TRYING", quickly)
    proxy.refuse(WATCH, 500, times=4)
    async with endings(provisioner):
        await until(lambda: proxy.count(WATCH) >= 5)

    looks = proxy.count(r"GET \S+/pods\?labelSelector") - proxy.count(WATCH)
    assert looks == 2


async def test_a_watch_that_is_cut_goes_on(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner
) -> None:
    specs = [harness.spec(f"r-{number}") for number in range(3)]
    async with endings(provisioner) as told:
        for spec in specs:
            made = await provisioner.ensure(spec, ignore)
            await until(lambda: proxy.cut_watches() > 0)
            await harness.stop(made)

            async with asyncio.timeout(30):
                assert await told.get() == spec.reservation_id


async def test_what_ends_while_the_api_is_away_is_told_when_it_is_back(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner
) -> None:
    async with endings(provisioner) as told:
        made = await provisioner.ensure(harness.spec(), ignore)
        proxy.down = True
        proxy.cut_watches()
        with pytest.raises(Unavailable):
            await provisioner.ping()
        await harness.stop(made)
        proxy.down = False

        async with asyncio.timeout(30):
            assert await told.get() == made.reservation_id


@pytest.mark.parametrize("how", ["answer", "event"])
async def test_a_version_that_is_forgotten_is_listed_anew(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner, how: str
) -> None:
    async with endings(provisioner) as told:
        made = await provisioner.ensure(harness.spec("r-1"), ignore)
        gone = await provisioner.ensure(harness.spec("r-2"), ignore)
        if how == "answer":
            proxy.refuse(WATCH, 410, "too old resource version", reason="Expired")
        else:
            event = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n'
            proxy.answer(WATCH, 200, "", raw=event)
        proxy.down = True
        proxy.cut_watches()
        await harness.stop(made)
        await harness.core.delete_namespaced_pod(gone.name, harness.namespace, grace_period_seconds=0)
        await harness.pod_gone(gone.name)
        proxy.down = False

        async with asyncio.timeout(30):
            assert {await told.get(), await told.get()} == {"r-1", "r-2"}
    assert proxy.count(r"GET \S+/pods\?labelSelector\S+limit") >= 2


async def test_a_pod_is_seen_to_be_ready_though_nobody_can_watch(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner
) -> None:
    proxy.refuse("watch=true", 403, "watching is forbidden", times=1000)

    assert (await provisioner.ensure(harness.spec(), ignore)).status is Status.RUNNING
    assert await provisioner.remove(harness.spec().key) is True


@pytest.mark.parametrize("settle", [0.0, 0.2])
async def test_what_a_cut_watch_knew_last_is_not_believed(
    harness: KubernetesHarness, proxy: ApiProxy, monkeypatch: pytest.MonkeyPatch, settle: float
) -> None:
    provisioner = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig), settle=settle)
    monkeypatch.setattr("consumer.provisioners.kubernetes.starting._LOOK_ANYWAY", 0.2)
    spec = harness.spec(labels=STUCK)
    ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
    await harness.there(spec.name)
    await until(lambda: proxy.count(WATCH) > 0)
    proxy.refuse("watch=true", 500, times=1000)
    proxy.cut_watches()

    await harness.runs(spec.name, ready=True)

    assert (await ensuring).status is Status.RUNNING


async def test_a_removal_whose_reply_is_lost_is_found_done(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner
) -> None:
    await provisioner.ensure(harness.spec(), ignore)
    proxy.on(r"DELETE \S+/configmaps", "lose_reply")

    with suppress(Unavailable):  # unless the client asks again by itself, as it may on a connection it had before
        await provisioner.remove(harness.spec().key)

    await provisioner.remove(harness.spec().key)
    assert await harness.leftovers() == []


async def test_remove_waits_for_a_creation_that_nobody_waits_for(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner
) -> None:
    ensuring = asyncio.create_task(provisioner.ensure(harness.spec(), ignore))
    await until(lambda: proxy.count(ANCHORS) == 1)
    ensuring.cancel()
    await asyncio.gather(ensuring, return_exceptions=True)

    await provisioner.remove(harness.spec().key)

    await asyncio.sleep(0.5)
    assert await harness.leftovers() == []


async def test_closing_gives_up_what_is_under_way(
    harness: KubernetesHarness, proxy: ApiProxy, provisioner: Provisioner
) -> None:
    proxy.on(ANCHORS, "hang")
    ensuring = asyncio.create_task(provisioner.ensure(harness.spec(), ignore))
    await until(lambda: proxy.count(ANCHORS) == 1)

    await provisioner.close()

    with pytest.raises(Unavailable):
        await ensuring


async def test_whoever_answers_without_being_an_api_server_is_found_out(
    proxy: ApiProxy, provisioner: Provisioner
) -> None:
    proxy.refuse("GET /version", 404, "the server could not find the requested resource")

    (finding,) = await provisioner.diagnose(Needs())

    assert (finding.level, finding.message) == (Level.ERROR, "What answers is not the Kubernetes API.")
    assert finding.remedy is not None


def rewrite(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


async def test_a_login_that_has_run_out_is_read_again(harness: KubernetesHarness, proxy: ApiProxy) -> None:
    rewrite(proxy.kubeconfig, "user: {}", "user: {token: old}")
    provisioner = harness.provisioner_with(kubeconfig=str(proxy.kubeconfig))
    proxy.refuse("", 401, "Unauthorized")
    with pytest.raises(Unavailable, match="login"):
        await provisioner.ping()

    rewrite(proxy.kubeconfig, "token: old", "token: new")
    proxy.refuse("", 401, "Unauthorized")

    await provisioner.ping()


@pytest.mark.parametrize(
    ("content", "tells"),
    [(None, "There is no kubeconfig"), ("{", "cannot be read"), ("a: 1", "cannot be used"), ("", "cannot be")],
)
async def test_a_kubeconfig_that_is_none_is_named(
    harness: KubernetesHarness, tmp_path: Path, content: str | None, tells: str
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)

    with pytest.raises(Unavailable, match=tells) as error:
        await harness.provisioner_with(kubeconfig=str(path)).ping()

    assert str(tmp_path) not in error.value.message
