"""Pulls from real registries: private ones, and ones that are slow, cut off or refuse."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumer.handling.errors import Permanent, ProvisionerError, Transient
from consumer.handling.ports import Status
from tests.provisioners.docker.harness import DockerHarness
from tests.provisioners.harness import ignore, until
from tests.provisioners.registry_proxy import RegistryProxy
from tests.services import Registry
from tests.services.registry import PASSWORD, USER, write_login

pytestmark = pytest.mark.docker

MANIFEST, BLOB = r"(GET|HEAD) /v2/.*/manifests/", r"GET /v2/.*/blobs/"


def refusal(code: str, message: str) -> str:
    return json.dumps({"errors": [{"code": code, "message": message}]})


async def put(harness: DockerHarness, registry: str, **auth: Any) -> str:
    """An image of this test alone that the registry has and the engine has not; its name without the registry."""
    name = f"{harness.instance}:1"
    container = await harness.docker.containers.create({"Image": harness.image, "Cmd": ["true"]})
    await container.commit(repository=f"{registry}/{harness.instance}", tag="1", changes=[f"LABEL of={name}"])
    await container.delete()
    await harness.docker.images.push(f"{registry}/{name}", **auth)
    await harness.docker.images.delete(f"{registry}/{name}")
    return name


async def forget(harness: DockerHarness, repository: str) -> None:
    """Take this test's images of one repository off the engine."""
    for shown in await harness.docker.images.list(filters={"reference": [repository]}):
        await harness.docker.images.delete(shown["Id"], force=True)


@pytest.fixture
async def private_image(harness: DockerHarness, private_registry: Registry) -> AsyncIterator[str]:
    login = {"username": USER, "password": PASSWORD}
    name = await put(harness, private_registry.address, auth=login)
    yield f"{private_registry.address}/{name}"
    await forget(harness, f"{private_registry.address}/{harness.instance}")


@pytest.fixture
async def front(harness: DockerHarness, registry: Registry) -> AsyncIterator[RegistryProxy]:
    async with RegistryProxy(registry.address) as front:
        yield front
        await forget(harness, f"{front.address}/{harness.instance}")


@pytest.fixture
async def image(harness: DockerHarness, front: RegistryProxy, registry: Registry) -> str:
    """An image behind `front`."""
    return f"{front.address}/{await put(harness, registry.address)}"


async def start(harness: DockerHarness, image: str, **options: Any) -> None:
    provisioner, spec = harness.provisioner_with(**options), harness.spec(image=image)
    made = await provisioner.ensure(spec, ignore)
    assert made.status is Status.RUNNING
    await provisioner.remove(spec.key)


async def test_without_a_login_a_private_registry_hands_out_nothing(harness: DockerHarness, private_image: str) -> None:
    with pytest.raises(Permanent, match="wants a login") as error:
        await start(harness, private_image)

    assert error.value.code == "image_pull_denied"


async def test_with_a_login_it_does(harness: DockerHarness, private_image: str, tmp_path: Path) -> None:
    credentials = write_login(tmp_path / "config.json", private_image.partition("/")[0])

    await start(harness, private_image, registry_credentials=credentials)


async def test_a_wrong_login_is_named_and_not_shown(harness: DockerHarness, private_image: str, tmp_path: Path) -> None:
    credentials = write_login(tmp_path / "config.json", private_image.partition("/")[0], password="battery staple")

    with capture_logs() as logs, pytest.raises(Permanent, match="does not accept the service's login") as error:
        await start(harness, private_image, registry_credentials=credentials)

    assert error.value.code == "image_pull_denied"
    shown = f"{error.value!r} {error.value.__cause__!r} {logs}"
    assert "staple" not in shown
    assert base64.b64encode(f"{USER}:battery staple".encode()).decode() not in shown


async def test_a_changed_file_counts_from_the_next_pull_on(
    harness: DockerHarness, private_image: str, tmp_path: Path
) -> None:
    host = private_image.partition("/")[0]
    credentials = write_login(tmp_path / "config.json", host, password="battery staple")
    provisioner, spec = harness.provisioner_with(registry_credentials=credentials), harness.spec(image=private_image)
    with pytest.raises(Permanent):
        await provisioner.ensure(spec, ignore)

    write_login(credentials, host)

    assert (await provisioner.ensure(spec, ignore)).status is Status.RUNNING
    await provisioner.remove(spec.key)


async def test_a_login_goes_to_its_own_registry_only(
    harness: DockerHarness, private_image: str, tmp_path: Path
) -> None:
    credentials = write_login(tmp_path / "config.json", "registry.example.org")

    with pytest.raises(Permanent, match="wants a login"):
        await start(harness, private_image, registry_credentials=credentials)


async def test_a_slow_registry_is_waited_for(harness: DockerHarness, front: RegistryProxy, image: str) -> None:
    front.on(BLOB, "hang")
    starting = asyncio.create_task(start(harness, image))
    await until(lambda: front.count(BLOB) > 0)
    assert not starting.done()

    front.released.set()

    await starting


async def test_a_registry_that_never_answers_is_worth_another_try(
    harness: DockerHarness, front: RegistryProxy, image: str
) -> None:
    front.on(MANIFEST, "hang")
    with pytest.raises(Transient, match="too long") as error:
        await start(harness, image, pull_timeout=0.5)
    assert error.value.code == "image_pull_failed"

    front.released.set()

    await start(harness, image)


async def test_a_connection_that_is_cut_does_not_spoil_the_image(
    harness: DockerHarness, front: RegistryProxy, image: str
) -> None:
    front.on(BLOB, "cut", times=1)

    await start(harness, image)

    assert 2 in {count for request, count in front.seen.items() if re.search(BLOB, request)}


@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (401, refusal("UNAUTHORIZED", "authentication required"), Permanent, "image_pull_denied"),
        (403, refusal("DENIED", "requested access is denied"), Permanent, "image_pull_denied"),
        (404, refusal("MANIFEST_UNKNOWN", "manifest unknown"), Permanent, "image_not_found"),
        (429, refusal("TOOMANYREQUESTS", "slow down"), Transient, "image_pull_failed"),
        (500, refusal("UNKNOWN", "a disk is gone"), Transient, "image_pull_failed"),
        (502, "<html>Bad Gateway</html>", Transient, "image_pull_failed"),
        (503, "", Transient, "image_pull_failed"),
    ],
)
async def test_what_a_registry_refuses_has_its_meaning(
    harness: DockerHarness,
    front: RegistryProxy,
    image: str,
    status: int,
    body: str,
    expected: type[ProvisionerError],
    code: str,
) -> None:
    front.answer(MANIFEST, status, body, Retry_After="7")

    with pytest.raises(expected, match=image) as error:
        await start(harness, image)

    assert error.value.code == code
    if status == 429:
        assert isinstance(error.value, Transient)
        assert error.value.retry_after is not None
        assert error.value.retry_after >= 7
