"""Images: pulled from a real registry, once for everybody, with progress; and the many ways that fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from aiodocker.exceptions import DockerError

from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Progress, Status
from consumer.provisioners.docker.images import local_images
from tests.provisioners.docker.harness import DockerHarness
from tests.provisioners.docker.proxy import Action, EngineProxy
from tests.provisioners.harness import ignore, until
from tests.services import Registry

pytestmark = pytest.mark.docker

PULL = r"POST \S+/images/create"


@pytest.fixture
async def remote_image(harness: DockerHarness, registry: Registry) -> AsyncIterator[str]:
    """An image that the registry has and the engine has not."""
    repository = f"{registry.address}/{harness.instance}"
    name = f"{repository}:1"
    await harness.docker.images.tag(harness.image, repository, tag="1")
    await harness.docker.images.push(name)
    await harness.docker.images.delete(name)
    yield name
    with suppress(DockerError):
        await harness.docker.images.delete(name, force=True)


async def test_an_image_the_engine_lacks_is_pulled_and_told(harness: DockerHarness, remote_image: str) -> None:
    steps: list[Progress] = []

    made = await harness.provisioner().ensure(harness.spec(image=remote_image), steps.append)

    assert (made.status, made.image) == (Status.RUNNING, remote_image)
    assert Progress("pulling", remote_image) in steps
    await harness.provisioner().remove(made.key)


async def test_many_who_need_an_image_pull_it_once(
    harness: DockerHarness, proxy: EngineProxy, remote_image: str
) -> None:
    provisioner = harness.provisioner_with(url=proxy.url)
    specs = [harness.spec(f"r-{number}", image=remote_image) for number in range(5)]

    await asyncio.gather(*(provisioner.ensure(spec, ignore) for spec in specs))

    assert proxy.count(PULL) == 1
    await asyncio.gather(*(provisioner.remove(spec.key) for spec in specs))


async def test_who_gives_up_waiting_leaves_the_pull_to_the_others(harness: DockerHarness, remote_image: str) -> None:
    provisioner = harness.provisioner()
    specs = [harness.spec(f"r-{number}", image=remote_image) for number in range(2)]
    waiting = [asyncio.create_task(provisioner.ensure(spec, ignore)) for spec in specs]
    await asyncio.sleep(0.02)
    waiting[0].cancel()

    made = await waiting[1]

    assert made.status is Status.RUNNING
    await provisioner.remove(made.key)


async def test_when_all_give_up_the_pull_ends(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.on(PULL, "hang")
    provisioner = harness.provisioner_with(url=proxy.url)
    waiting = asyncio.create_task(provisioner.ensure(harness.spec(image="nowhere/image:1"), ignore))
    await until(lambda: proxy.count(PULL) == 1)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0.01)

    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("pull-")]


async def test_closing_ends_pulls(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.on(PULL, "hang")
    provisioner = harness.provisioner_with(url=proxy.url)
    waiting = asyncio.create_task(provisioner.ensure(harness.spec(image="nowhere/image:1"), ignore))
    await until(lambda: proxy.count(PULL) == 1)

    await provisioner.close()

    with pytest.raises(Unavailable):
        await waiting


@pytest.mark.parametrize("missing", ["no-such-repository:1", "no-such-repository"])
async def test_an_image_the_registry_lacks_is_not_found(
    harness: DockerHarness, registry: Registry, missing: str
) -> None:
    with pytest.raises(Permanent, match=missing) as error:
        await harness.provisioner().ensure(harness.spec(image=f"{registry.address}/{missing}"), ignore)

    assert error.value.code == "image_not_found"


async def test_a_registry_that_is_not_there_is_worth_another_try(harness: DockerHarness, free_port: int) -> None:
    with pytest.raises(Transient, match="registry") as error:
        await harness.provisioner().ensure(harness.spec(image=f"127.0.0.1:{free_port}/image:1"), ignore)

    assert error.value.code == "image_pull_failed"


async def test_progress_is_told_at_most_once_an_interval(
    harness: DockerHarness, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = [{"status": "Pulling from x", "id": "1"}, {"status": "Already exists", "id": "a"}]
    events += [
        {"status": "Downloading", "id": "b", "progressDetail": {"current": done * 1_000_000, "total": 40_000_000}}
        for done in range(41)
    ]
    events += [{"status": "Pull complete", "id": "b"}, {"status": "Status: Downloaded newer image"}]
    steps: list[Progress] = []
    for interval in (0.0, 3600.0):
        monkeypatch.setattr("consumer.provisioners.docker.pulls._REPORT_EVERY", interval)
        raw = "\n".join(map(json.dumps, events)).encode()
        proxy.answer(PULL, 200, "", raw=raw)
        provisioner = harness.provisioner_with(url=proxy.url)

        with pytest.raises(Transient, match="not there"):
            await provisioner.ensure(harness.spec(image="nowhere/image:1"), steps.append)

    told = [step.detail for step in steps if step.stage == "pulling"]
    assert "nowhere/image:1: 1 of 3 layers, 12 of 40 MB" in told
    assert len(told) == 2 + len(events) - 1


@pytest.mark.parametrize(
    ("status", "message", "expected", "code"),
    [
        (404, "manifest for x:1 not found: manifest unknown", Permanent, "image_not_found"),
        (404, "pull access denied for x, repository does not exist", Permanent, "image_pull_denied"),
        (500, "unauthorized: authentication required", Permanent, "image_pull_denied"),
        (500, "toomanyrequests: You have reached your pull rate limit", Transient, "image_pull_failed"),
        (500, 'Get "https://r/v2/": dial tcp: lookup r: no such host', Transient, "image_pull_failed"),
        (500, 'Get "https://r/v2/": x509: certificate signed by unknown authority', Transient, "image_pull_failed"),
        (500, "something else entirely", Transient, "image_pull_failed"),
        (400, "invalid reference format", Permanent, "invalid_spec"),
        (200, "no matching manifest for linux/arm64 in the manifest list entries", Permanent, "image_not_found"),
        (200, "failed to register layer: no space left on device", Transient, "runtime_full"),
        (200, "unexpected EOF", Transient, "image_pull_failed"),
    ],
)
async def test_each_refusal_has_its_meaning(
    harness: DockerHarness,
    proxy: EngineProxy,
    status: int,
    message: str,
    expected: type[ProvisionerError],
    code: str,
) -> None:
    in_stream = json.dumps({"errorDetail": {"message": message}, "error": message}).encode()
    proxy.answer(PULL, status, message, raw=in_stream if status == 200 else None)

    with pytest.raises(expected) as error:
        await harness.provisioner_with(url=proxy.url).ensure(harness.spec(image="toomanyrequests/tls:1"), ignore)

    assert error.value.code == code
    assert "toomanyrequests/tls:1" in error.value.message


async def test_a_pull_that_takes_too_long_is_worth_another_try(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.on(PULL, "hang")

    with pytest.raises(Transient, match="too long") as error:
        await harness.provisioner_with(url=proxy.url, pull_timeout=0.1).ensure(
            harness.spec(image="nowhere/image:1"), ignore
        )

    assert error.value.code == "image_pull_failed"


@pytest.mark.parametrize("how", ["refuse", "cut_reply"])
async def test_an_engine_lost_while_pulling_is_tried_again(
    harness: DockerHarness, proxy: EngineProxy, how: Action, registry: Registry
) -> None:
    proxy.on(PULL, how)

    with pytest.raises((Transient, Unavailable)):
        await harness.provisioner_with(url=proxy.url).ensure(harness.spec(image=f"{registry.address}/x:1"), ignore)


async def test_an_engine_tells_which_images_it_has(harness: DockerHarness) -> None:
    assert harness.image in await local_images(harness.url)


async def test_no_engine_has_no_images() -> None:
    assert await local_images("unix:///nonexistent/docker.sock") == frozenset()
