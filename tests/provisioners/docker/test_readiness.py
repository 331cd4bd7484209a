"""Running is not ready: what the template or the image asks for must answer, and the message tells why it did not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.catalog.environment import Port, Readiness
from consumer.handling.errors import Permanent
from consumer.handling.ports import Progress, Status
from tests.provisioners.docker.harness import DockerHarness, shell
from tests.provisioners.harness import ignore
from tests.services import DockerEngine
from tests.services.docker_client import docker_client

pytestmark = pytest.mark.docker

WEB = (Port(8080),)
SLOWLY = shell("sleep 4; echo up > /www/index.html; exec httpd -f -p 8080 -h /www")
NEVER = shell("echo connecting with password=hunter2; echo waiting for the database; exec sleep 600")


@pytest.fixture
def checked_image(docker_engine: DockerEngine, tmp_path: Path) -> Iterator[str]:
    """An image whose own check passes once there is a file /ready."""
    name = "moorage/checked:test"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {docker_engine.image}\nHEALTHCHECK --interval=200ms --timeout=2s --retries=15 CMD test -e /tmp/ready\n"
    )
    with docker_client(docker_engine.url) as client:
        client.images.build(path=str(tmp_path), tag=name, rm=True)
        yield name
        client.images.remove(name, force=True)


@pytest.mark.parametrize("ready", [Readiness(8080, "/"), Readiness(8080)], ids=["page", "connection"])
async def test_a_server_that_needs_a_while_is_waited_for(harness: DockerHarness, ready: Readiness) -> None:
    spec = harness.spec(command=SLOWLY, ports=WEB, ready=ready)
    steps: list[Progress] = []

    made = await harness.provisioner().ensure(spec, steps.append)

    assert made.status is Status.RUNNING
    assert steps[-1].stage == "waiting"  # it did not answer at first: the engine's own listener does not count
    container = harness.docker.containers.container(made.native_id)
    assert "httpd" in str((await container.top())["Processes"])


@pytest.mark.parametrize(
    ("ready", "message"),
    [
        (Readiness(8080, "/", within=3.0), "No page answered on port 8080 within 3 s. It said: "),
        (Readiness(8080, within=3.0), "Nothing answered on port 8080 within 3 s. It said: "),
    ],
    ids=["page", "connection"],
)
async def test_one_that_never_answers_is_removed_and_its_last_words_are_told_without_secrets(
    harness: DockerHarness, ready: Readiness, message: str
) -> None:
    spec = harness.spec(command=NEVER, ports=WEB, ready=ready)

    with pytest.raises(Permanent) as error:
        await harness.provisioner().ensure(spec, ignore)

    assert error.value.code == "not_ready"
    assert error.value.message == f"{message}connecting with password=… | waiting for the database"
    assert await harness.provisioner().find(spec.key) is None


async def test_an_error_page_is_no_answer(harness: DockerHarness) -> None:
    answer = r"printf 'HTTP/1.1 503 Starting\r\nContent-Length: 0\r\n\r\n'"
    spec = harness.spec(
        command=shell(f"while :; do {answer} | nc -l -p 8080 >/dev/null; done"),
        ports=WEB,
        ready=Readiness(8080, "/", within=1.5),
    )

    with pytest.raises(Permanent, match="No page answered"):
        await harness.provisioner().ensure(spec, ignore)


async def test_a_program_that_ends_meanwhile_is_not_waited_for(harness: DockerHarness) -> None:
    spec = harness.spec(command=shell("sleep 1; echo no licence; exit 3"), ports=WEB, ready=Readiness(8080, within=300))

    with pytest.raises(Permanent, match=r"exit code 3\)\. It said: no licence") as error:
        await harness.provisioner().ensure(spec, ignore)

    assert error.value.code == "exited_at_start"


async def test_whoever_answers_has_started(harness: DockerHarness) -> None:
    spec = harness.spec(ports=WEB, ready=Readiness(8080, "/"))

    made = await harness.provisioner_with(settle=3600).ensure(spec, ignore)

    assert made.status is Status.RUNNING


async def test_the_images_own_check_must_pass(harness: DockerHarness, checked_image: str) -> None:
    spec = harness.spec(image=checked_image, command=shell("sleep 0.3; touch /tmp/ready; exec sleep 600"))

    made = await harness.provisioner().ensure(spec, ignore)

    assert (await harness.inspect(made))["State"]["Health"]["Status"] == "healthy"


async def test_an_image_whose_check_fails_is_not_ready(harness: DockerHarness, checked_image: str) -> None:
    spec = harness.spec(image=checked_image, command=shell("echo no disk; exec sleep 600"))

    with pytest.raises(Permanent, match=r"The health check of the image did not pass\. It said: no disk") as error:
        await harness.provisioner().ensure(spec, ignore)

    assert error.value.code == "not_ready"


async def test_a_template_may_do_without_it(harness: DockerHarness, checked_image: str) -> None:
    spec = harness.spec(image=checked_image, command=shell("exec sleep 600"), ready=Readiness(health=False))

    assert (await harness.provisioner().ensure(spec, ignore)).status is Status.RUNNING


async def test_whoever_adopts_it_waits_as_well(harness: DockerHarness) -> None:
    spec = harness.spec(command=SLOWLY, ports=WEB, ready=Readiness(8080, "/"))
    waiting = asyncio.create_task(harness.provisioner().ensure(spec, ignore))
    other = harness.provisioner()
    while await other.find(spec.key) is None:  # noqa: ASYNC110 - an engine tells nobody
        await asyncio.sleep(0.02)

    adopted = await other.ensure(spec, ignore)

    assert adopted == await waiting


async def test_an_answer_without_end_is_no_page(harness: DockerHarness) -> None:
    flood = "while :; do head -c 5000 /dev/zero | tr '\\0' x | nc -l -p 8080 >/dev/null; done"
    spec = harness.spec(command=shell(flood), ports=WEB, ready=Readiness(8080, "/", within=1.5))

    with pytest.raises(Permanent, match="No page answered"):
        await harness.provisioner().ensure(spec, ignore)

    assert await harness.provisioner().find(spec.key) is None
