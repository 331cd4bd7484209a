"""Images: pulled from a real registry, once for everybody, with progress; and the many ways that fails."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
from aiodocker.exceptions import DockerError

from consumer.catalog.environment import PullPolicy
from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Progress, Status
from consumer.handling.stopwatch import Stopwatch
from consumer.provisioners.docker.images import local_images
from tests.provisioners.docker.harness import DockerHarness, on_both
from tests.provisioners.docker.proxy import Action, EngineProxy
from tests.provisioners.harness import ignore, until
from tests.services import Registry
from tests.services.docker_client import docker_client

pytestmark = pytest.mark.docker

PULL = r"POST \S+/images/create"


@pytest.fixture
async def remote_image(harness: DockerHarness, registry: Registry) -> AsyncIterator[str]:
    """An image that the registry has and the engine has not."""
    repository = f"{registry.address}/{harness.instance}"
    name = f"{repository}:1"
    await asyncio.to_thread(push, harness, repository)
    yield name
    with suppress(DockerError):
        await harness.docker.images.delete(name, force=True)


async def push_another(harness: DockerHarness, name: str) -> str:
    """Have `name` mean another content in the registry, but not on the engine; its digest."""
    repository, _, tag = name.rpartition(":")
    with_old = f"{repository}:kept-{tag}"
    kept = await harness.docker.images.list(filters={"reference": [name]})
    if kept:
        await harness.docker.images.tag(name, with_old.rpartition(":")[0], tag=f"kept-{tag}")
    container = await harness.docker.containers.create({"Image": harness.image, "Cmd": ["true"]})
    await container.commit(repository=repository, tag=tag, changes=[f"LABEL another={uuid.uuid4()}"])
    await container.delete()
    pushed = await harness.docker.images.push(name)
    digest: str = next(event["aux"]["Digest"] for event in pushed if "aux" in event)
    await forget(harness, name, f"{repository}@{digest}")
    if kept:
        await harness.docker.images.tag(with_old, repository, tag=tag)
        await forget(harness, with_old)
    return digest


async def forget(harness: DockerHarness, *names: str) -> None:
    """Have the engine not know these names."""
    for name in names:
        with suppress(DockerError):
            await harness.docker.images.delete(name)


def push(harness: DockerHarness, repository: str) -> None:
    # By the SDK: aiodocker's idea of no credentials is none that Podman can read.
    with docker_client(harness.url) as client:
        client.images.get(harness.image).tag(repository, "1")
        client.images.push(repository, "1")
        client.images.remove(f"{repository}:1")


@on_both
async def test_an_image_the_engine_lacks_is_pulled_and_told(harness: DockerHarness, remote_image: str) -> None:
    steps: list[Progress] = []

    made = await harness.provisioner().ensure(harness.spec(image=remote_image), steps.append)

    assert (made.status, made.image) == (Status.RUNNING, remote_image)
    assert Progress("pulling", remote_image) in steps
    await harness.provisioner().remove(made.key)


async def test_only_pulling_counts_as_pulling(harness: DockerHarness, remote_image: str) -> None:
    provisioner = harness.provisioner()
    pulled, at_hand = (Stopwatch(asyncio.get_running_loop().time()) for _ in range(2))
    steps: list[str] = []
    for reservation, watch in (("r-1", pulled), ("r-2", at_hand)):
        watch.begin()
        made = await provisioner.ensure(
            harness.spec(reservation, image=remote_image),
            lambda step, watch=watch: (steps.append(step.stage), watch.note(step)),  # type: ignore[misc]
        )
        times = watch.timings()
        assert times is not None
        assert (times.pulled > 0, times.started > 0) == (watch is pulled, True)
        await provisioner.remove(made.key)

    assert [stage for stage, _ in groupby(steps)] == [
        "pulling",
        "creating",
        "starting",
        "creating",
        "starting",
    ]


async def test_what_ran_is_told_by_its_digest_and_read_back(harness: DockerHarness, remote_image: str) -> None:
    provisioner, spec = harness.provisioner(), harness.spec(image=remote_image)

    made = await provisioner.ensure(spec, ignore)

    shown = await harness.docker.images.inspect(remote_image)
    assert [f"{remote_image.removesuffix(':1')}@{made.image_digest}"] == shown["RepoDigests"]
    assert (await harness.inspect(made))["Image"] == shown["Id"]
    assert await harness.provisioner().find(spec.key) == made
    assert await harness.provisioner().list() == [made]
    await provisioner.remove(spec.key)


async def test_an_image_built_on_the_engine_has_no_digest(harness: DockerHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec(), ignore)

    assert (made.image, made.image_digest) == (harness.image, None)


async def test_an_image_asked_for_by_digest_is_what_runs(harness: DockerHarness, remote_image: str) -> None:
    digest = await push_another(harness, remote_image)
    provisioner = harness.provisioner()
    for image in (f"{remote_image}@{digest}", f"{remote_image.removesuffix(':1')}@{digest}"):
        spec = harness.spec(image=image)

        made = await provisioner.ensure(spec, ignore)

        assert (made.image, made.image_digest) == (image, digest)
        await provisioner.remove(spec.key)
        await forget(harness, f"{remote_image.removesuffix(':1')}@{digest}")


async def test_what_is_made_again_is_the_same_content_though_its_tag_has_moved(
    harness: DockerHarness, remote_image: str
) -> None:
    provisioner, spec = harness.provisioner(), harness.spec(image=remote_image)
    first = await provisioner.ensure(spec, ignore)
    content = (await harness.inspect(first))["Image"]
    await provisioner.remove(spec.key)
    await forget(harness, remote_image, f"{remote_image.removesuffix(':1')}@{first.image_digest}")
    moved = await push_another(harness, remote_image)

    again = await provisioner.ensure(replace(spec, image_digest=first.image_digest), ignore)

    assert again.image_digest == first.image_digest != moved
    assert (again.image, again.spec_hash) == (remote_image, first.spec_hash)
    assert (await harness.inspect(again))["Image"] == content
    await provisioner.remove(spec.key)
    await forget(harness, f"{remote_image.removesuffix(':1')}@{first.image_digest}")


@pytest.mark.parametrize(("pull", "pulls"), [("if-not-present", 0), ("always", 1), ("never", 0)])
async def test_a_template_says_when_to_pull(
    harness: DockerHarness, proxy: EngineProxy, remote_image: str, pull: PullPolicy, pulls: int
) -> None:
    """The engine has what the tag meant before it moved."""
    await harness.docker.images.pull(remote_image)
    old = (await harness.docker.images.inspect(remote_image))["RepoDigests"][0].partition("@")[2]
    new = await push_another(harness, remote_image)
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec(image=remote_image, pull=pull)

    made = await provisioner.ensure(spec, ignore)

    assert made.image_digest == (new if pull == "always" else old)
    assert proxy.count(PULL) == pulls
    assert await provisioner.ensure(spec, ignore) == made
    assert proxy.count(PULL) == pulls
    await provisioner.remove(spec.key)
    await forget(harness, f"{remote_image.removesuffix(':1')}@{old}")


async def test_where_nothing_may_be_pulled_an_image_that_is_not_there_is_an_error(
    harness: DockerHarness, proxy: EngineProxy, remote_image: str
) -> None:
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec(image=remote_image, pull="never")

    await provisioner.prepare(spec, ignore)
    with pytest.raises(Permanent, match=remote_image) as error:
        await provisioner.ensure(spec, ignore)

    assert error.value.code == "image_not_present"
    assert proxy.count(PULL) == 0


async def test_an_image_that_is_deleted_while_its_container_is_made_is_pulled_again(
    harness: DockerHarness, proxy: EngineProxy, remote_image: str
) -> None:
    proxy.answer(r"POST \S+/containers/create", 404, "No such image: it was deleted this moment")
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec(image=remote_image)

    made = await provisioner.ensure(spec, ignore)

    assert made.status is Status.RUNNING
    await provisioner.remove(spec.key)


@on_both
async def test_many_who_need_an_image_pull_it_once(
    harness: DockerHarness, proxy: EngineProxy, remote_image: str
) -> None:
    provisioner = harness.provisioner_with(url=proxy.url)
    specs = [harness.spec(f"r-{number}", image=remote_image) for number in range(5)]

    await asyncio.gather(*(provisioner.ensure(spec, ignore) for spec in specs))

    assert proxy.count(PULL) == 1
    await asyncio.gather(*(provisioner.remove(spec.key) for spec in specs))


async def test_an_image_that_was_prepared_is_there_when_the_start_comes(
    harness: DockerHarness, proxy: EngineProxy, remote_image: str
) -> None:
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec(image=remote_image)

    await provisioner.prepare(spec, ignore)
    assert remote_image in await local_images(harness.url, timeout=30)
    await provisioner.prepare(spec, ignore)
    steps: list[Progress] = []
    made = await provisioner.ensure(spec, steps.append)

    assert made.status is Status.RUNNING
    assert proxy.count(PULL) == 1
    assert "pulling" not in {step.stage for step in steps}
    await provisioner.remove(spec.key)


async def test_a_start_joins_the_pull_of_a_preparation(
    harness: DockerHarness, proxy: EngineProxy, remote_image: str
) -> None:
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec(image=remote_image)

    _, made = await asyncio.gather(provisioner.prepare(spec, ignore), provisioner.ensure(spec, ignore))

    assert made.status is Status.RUNNING
    assert proxy.count(PULL) == 1
    await provisioner.remove(spec.key)


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

    await until(lambda: not any(task.get_name().startswith("pull-") for task in asyncio.all_tasks()))


async def test_closing_ends_pulls(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.on(PULL, "hang")
    provisioner = harness.provisioner_with(url=proxy.url)
    waiting = asyncio.create_task(provisioner.ensure(harness.spec(image="nowhere/image:1"), ignore))
    await until(lambda: proxy.count(PULL) == 1)

    await provisioner.close()

    with pytest.raises(Unavailable):
        await waiting


@on_both
@pytest.mark.parametrize("missing", ["no-such-repository:1", "no-such-repository"])
async def test_an_image_the_registry_lacks_is_not_found(
    harness: DockerHarness, registry: Registry, missing: str
) -> None:
    with pytest.raises(Permanent, match=missing) as error:
        await harness.provisioner().ensure(harness.spec(image=f"{registry.address}/{missing}"), ignore)

    assert error.value.code == "image_not_found"


@on_both
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


@on_both
async def test_an_engine_tells_which_images_it_has(harness: DockerHarness) -> None:
    assert harness.image in await local_images(harness.url, timeout=30)


async def test_no_engine_has_no_images() -> None:
    assert await local_images("unix:///nonexistent/docker.sock") == frozenset()
