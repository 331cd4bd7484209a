"""Images on their way, on a real engine with a real registry: had beforehand, or told while a start waits for them."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

from tests.provisioners.registry_proxy import RegistryProxy
from tests.services import DockerEngine, KafkaBroker, Registry
from tests.services.docker_client import docker_client
from tests.support.containers import Containers
from tests.support.installation import Installation, docker_installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.docker, pytest.mark.timeout(150)]

TEMPLATES = """\
version: 1
templates:
  - {{name: shell, runtime: docker, image: "{image}", command: [sleep, "3600"], prepull: true}}
"""


@pytest.fixture
def ours(
    kafka: KafkaBroker, docker_engine: DockerEngine, registry: Registry, tmp_path: Path
) -> Iterator[tuple[Installation, str, Containers]]:
    """An installation whose only template runs an image that the registry has and the engine has not."""
    with docker_installation(kafka.bootstrap_servers, docker_engine, tmp_path) as (ours, containers):
        repository = f"{registry.address}/{ours.names.instance}"
        image = f"{repository}:1"
        with docker_client(docker_engine.url) as client:
            # Of its own: the engine fetches no layers that it has.
            made = client.containers.create(docker_engine.image, ["true"])
            made.put_archive("/", next(iter(made.get_archive("/etc/passwd")[0])))
            made.commit(repository, "1", changes=f"LABEL of={repository}")
            made.remove()
            client.images.push(repository, "1")
            client.images.remove(image)
            use(ours, image)
            yield ours, image, containers
            containers.remove_all()
            for shown in client.images.list():
                if any(ours.names.instance in digest for digest in shown.attrs["RepoDigests"] or ()):
                    with suppress(ImageNotFound):
                        client.images.remove(shown.id, force=True)


def use(installation: Installation, image: str) -> None:
    Path(installation.settings["MOORAGE_TEMPLATES"]).write_text(TEMPLATES.format(image=image))


def stages(service: Service) -> set[str]:
    return {event["stage"] for event in service.events("environment_progress")}


def test_the_image_of_a_booking_is_there_before_its_start(
    ours: tuple[Installation, str, Containers], docker_engine: DockerEngine
) -> None:
    installation, image, containers = ours
    soon = datetime.now(UTC) + timedelta(minutes=5)
    booking = Booking("1841", start=soon, end=soon + timedelta(hours=1))

    with installation.service() as service, docker_client(docker_engine.url) as client:
        installation.publish(Message(booking.created(), booking.id.encode()))
        service.wait_for("image_prepared")
        assert client.images.list(name=image.removesuffix(":1"))
        assert containers.all() == []

        installation.publish(Message(booking.start_event(), booking.id.encode()))
        eventually(lambda: service.events("reservation_provisioned"), what="the reservation starts")
        assert "starting" in stages(service)
        assert "pulling" not in stages(service)
        assert service.stop() == 0

    assert installation.look().told(booking.id) == (
        ("EVENT_CREATED", "skipped", "remembered"),
        ("EVENT_START", "provisioned", None),
    )


async def test_a_start_that_waits_for_its_image_tells_so_before_its_result(
    ours: tuple[Installation, str, Containers], registry: Registry
) -> None:
    installation, image, _ = ours
    booking = Booking("1841")

    def run(front: RegistryProxy, loop: asyncio.AbstractEventLoop) -> None:
        with installation.service() as service:
            installation.publish(Message(booking.start_event(), booking.id.encode()))
            eventually(lambda: "pulling" in stages(service), what="the image is being pulled")
            time.sleep(6)  # what takes less is not told
            loop.call_soon_threadsafe(front.released.set)
            eventually(lambda: service.events("reservation_provisioned"), what="the reservation starts")
            assert service.stop() == 0

    async with RegistryProxy(registry.address) as front:
        front.on("/blobs/", "hang")
        use(installation, image.replace(registry.address, front.address))
        await asyncio.to_thread(run, front, asyncio.get_running_loop())

    said = [message for message in installation.look().outbound if message.key == booking.id.encode()]
    kinds = [message.header("ce_type") for message in said]
    told, result = kinds.index("io.moorage.progress.v1"), kinds.index("io.moorage.result.provisioned.v1")
    assert told < result
    assert "io.moorage.progress.v1" not in kinds[result:]
    body = json.loads(said[told].value or b"")
    assert (body["eventId"], body["stage"]) == (booking.id, "pulling")
    assert json.loads(said[result].value or b"")["imageDigest"].startswith("sha256:")
