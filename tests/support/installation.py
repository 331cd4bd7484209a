"""An installation of Moorage on real services: its topics, its containers, its processes, and nothing left of them."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.services import DockerEngine
from tests.support.containers import Containers
from tests.support.kafka import Kafka, Message, Names
from tests.support.service import Service, running, settings_for
from tests.support.verifier import Verifier
from tests.support.waiting import eventually

TEMPLATES = """\
version: 1
templates:
  - name: web
    match: {{type: Web page}}
    runtime: docker
    image: {image}
    command: [sh, -c, "mkdir /tmp/page && echo $RESERVATION_ID > /tmp/page/index.html && httpd -f -h /tmp/page"]
    limits: {{cpu: 500m, memory: 64Mi}}
    ports: ["80"]
  - name: shell
    runtime: docker
    image: {image}
    command: [sleep, "3600"]
    limits: {{cpu: 500m, memory: 64Mi}}
"""


class Installation:
    """Everything under names of its own; `service()` as often as there are lives to live."""

    def __init__(self, kafka: Kafka, folder: Path, names: Names, settings: Mapping[str, str]) -> None:
        self.kafka = kafka
        self.folder = folder
        self.names = names
        self.settings = dict(settings)

    def publish(self, *messages: Message) -> list[Message]:
        return self.kafka.publish(self.names.inbound, messages)

    @contextmanager
    def service(self, name: str = "moorage", *, kind: type[Service] = Service, **settings: str) -> Iterator[Service]:
        """A process that consumes, until the block is left."""
        with running(self.settings | settings, self.folder, name=name, kind=kind) as service:
            yield service

    def launch(self, name: str = "moorage", *, kind: type[Service] = Service, **settings: str) -> Service:
        """A process that may not have begun to consume; whoever launches it also ends it."""
        return kind(self.settings | settings, self.folder, name)

    def settle(self, *, seconds: float = 60.0) -> None:
        """Return when everything that was published is done: the committed offsets say so."""
        names = self.names
        eventually(
            lambda: self.kafka.lag(names.group, names.inbound) == {},
            what="everything is handled and committed",
            seconds=seconds,
        )

    def wait_for(self, topic: str, count: int) -> None:
        """Return when `topic` holds at least so many records."""
        eventually(lambda: self.kafka.count(topic) >= count, what=f"{topic} holds {count} records")

    def look(self) -> Verifier:
        return Verifier(self.kafka, self.names)


@contextmanager
def installation(bootstrap_servers: str, folder: Path, **settings: str) -> Iterator[Installation]:
    """An installation whose reservation topic exists; all else it makes itself."""
    with ExitStack() as stack:
        kafka = stack.enter_context(Kafka(bootstrap_servers))
        names = Names()
        kafka.create(names.inbound)
        stack.callback(kafka.forget, *names.topics)
        yield Installation(kafka, folder, names, settings_for(names, bootstrap_servers, **settings))


@contextmanager
def docker_installation(
    bootstrap_servers: str, engine: DockerEngine, folder: Path, **settings: str
) -> Iterator[tuple[Installation, Containers]]:
    """An installation that runs containers of busybox: pages for the resource type `Web page`, sleepers for others."""
    templates = folder / "templates.yaml"
    templates.write_text(TEMPLATES.format(image=engine.image))
    more = {"MOORAGE_TEMPLATES": str(templates), "DOCKER_HOST": engine.url} | settings
    with installation(bootstrap_servers, folder, **more) as ours:
        containers = Containers(engine.url, ours.names.instance)
        try:
            yield ours, containers
        finally:
            containers.remove_all()
