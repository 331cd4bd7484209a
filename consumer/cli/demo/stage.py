"""The stage of the demonstration: a broker, topics and the best runtime at hand, all gone when it is over."""

import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from consumer.app import Moorage
from consumer.catalog.templates import Catalog, Defaults
from consumer.cli.console import load_settings
from consumer.parts import connection_of, provisioners_of
from consumer.provisioners.inflight import together
from consumer.settings import Settings
from consumer.transport.connection import Connection, Topics
from consumer.transport.embedded import EmbeddedBroker
from consumer.transport.topics import delete_topics

_PAGE = (
    "mkdir -p /tmp/page; "
    'echo "<h1>$RESOURCE_NAME</h1><p>for $USER, reservation $RESERVATION_ID</p>" > /tmp/page/index.html; '
    "exec httpd -f -p 80 -h /tmp/page"
)
_IMAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("nginx", ()),
    ("httpd", ()),
    ("busybox", ("sh", "-c", _PAGE)),
    ("alpine", ("sh", "-c", f"busybox-extras true 2>/dev/null || true; {_PAGE}")),
    ("moorage/busybox", ("sh", "-c", _PAGE)),
)
"""Images that can show a page, the best first, and the command that makes them do so."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the demonstration runs on."""

    service: Moorage
    settings: Settings
    connection: Connection
    topics: Topics
    broker: str
    runtime: str

    async def left_running(self) -> int:
        """How many environments there are, asked anew of the runtimes after the service stopped."""
        left = 0
        for provisioner in provisioners_of(self.settings, self.service.catalog.runtimes).values():
            left += len(await provisioner.list())
            await provisioner.close()
        return left


@asynccontextmanager
async def set_stage() -> AsyncIterator[Stage]:
    """Start what is needed, and take it away afterwards."""
    run = f"demo-{socket.gethostname()[:20]}-{os.getpid()}"
    topics = Topics((f"{run}-events",), f"{run}-outbound", f"{run}-state", f"{run}-dead-letters")
    names = [*topics.inbound, topics.outbound, topics.state, topics.dead_letter]
    async with AsyncExitStack() as stack:
        own = "KAFKA_BOOTSTRAP_SERVERS" in os.environ
        broker = None if own else stack.enter_context(EmbeddedBroker(names))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="moorage-demo-"))
        addresses = {} if broker is None else {"bootstrap_servers": broker.bootstrap_servers}
        settings = load_settings(
            **addresses,
            inbound_topics=topics.inbound,
            outbound_topic=topics.outbound,
            state_topic=topics.state,
            dead_letter_topic=topics.dead_letter,
            group=run,
            instance=run,
            templates=None,
            process_dir=Path(folder),
            drain_timeout=20.0,
            commit_interval=0.5,
            end_grace=1.0,
        )
        defaults, runtime = await _best_runtime(settings)
        catalog = Catalog.from_defaults(defaults, instance=settings.instance)
        service = Moorage(settings, catalog=catalog, provisioners=provisioners_of(settings, catalog.runtimes))
        stack.push_async_callback(_remove_all, settings, catalog)
        stage = Stage(
            service,
            settings,
            connection_of(settings),
            topics,
            broker=f"your Kafka at {settings.bootstrap_servers}" if broker is None else "an embedded broker",
            runtime=runtime,
        )
        if broker is None:
            stack.push_async_callback(delete_topics, stage.connection, names)
        yield stage


async def _remove_all(settings: Settings, catalog: Catalog) -> None:
    """Whatever a demonstration that failed or was interrupted would leave behind."""
    async with AsyncExitStack() as stack:
        for provisioner in provisioners_of(settings, catalog.runtimes).values():
            stack.push_async_callback(provisioner.close)
            await together(*(provisioner.remove(environment.key) for environment in await provisioner.list()))


async def _best_runtime(settings: Settings) -> tuple[Defaults, str]:
    """Docker when an engine answers and has an image that can show a page; processes otherwise."""
    limits = Defaults(
        cpu="500m",
        memory="256Mi",
        maximum_memory="1Gi",
        ports="80",
        http_port=80,
        capabilities=settings.capabilities,
    )
    try:
        from consumer.provisioners.docker.images import local_images
    except ImportError:
        present: frozenset[str] = frozenset()
    else:
        present = await local_images(settings.docker_host)
    for name, command in _IMAGES:
        for reference in sorted(present):
            if reference.rpartition(":")[0].removeprefix("docker.io/").removeprefix("library/") == name:
                defaults = replace(limits, runtime="docker", image=reference, command=command)
                return defaults, f"Docker, image {reference}"
    reason = "no Docker Engine answers" if not present else "the Docker Engine has no image that shows a page"
    return replace(limits, runtime="process", image="moorage/page:1"), f"processes on this machine ({reason})"
