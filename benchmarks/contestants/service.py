"""The whole of Moorage, with a runtime in memory."""

import asyncio

from benchmarks.contestants.harness import Task, run, say
from consumer.app import Moorage
from consumer.catalog.templates import Catalog, Defaults
from consumer.ops.logging import configure_logging
from consumer.provisioners.memory import MemoryEngine, MemoryProvisioner
from consumer.settings import Settings


async def serve(task: Task, stop: asyncio.Event) -> None:
    service = service_on(task, MemoryEngine())
    serving = asyncio.create_task(service.run())
    say("HANDLED")  # whether it has is for the runner to see, by what is committed
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    service.stop()
    await serving


def service_on(task: Task, engine: MemoryEngine) -> Moorage:
    settings = Settings(
        bootstrap_servers=task.bootstrap, inbound_topics=(task.topic,), group=task.group, **task.settings
    )
    configure_logging(settings.log_level, settings.log_format)
    provisioner = MemoryProvisioner(engine, instance=settings.instance, runtime="docker")
    catalog = Catalog.from_defaults(Defaults(runtime="docker"), instance=settings.instance)
    return Moorage(settings, catalog=catalog, provisioners={"docker": provisioner})


if __name__ == "__main__":
    run(serve)
