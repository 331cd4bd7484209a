"""The whole of Moorage on a real engine or cluster, as it is configured by default but for its concurrency."""

import asyncio

from benchmarks.contestants.harness import Task, run, say
from consumer.app import Moorage
from consumer.catalog.templates import Catalog
from consumer.ops.logging import configure_logging
from consumer.settings import Settings


async def serve(task: Task, stop: asyncio.Event) -> None:
    more = dict(task.settings)
    templates = more.pop("templates")
    settings = Settings(
        bootstrap_servers=task.bootstrap,
        inbound_topics=(task.topic,),
        group=task.group,
        runtime_concurrency={more.pop("runtime"): task.concurrency},
        **more,
    )
    configure_logging(settings.log_level, settings.log_format)
    catalog = Catalog.from_yaml(templates, instance=settings.instance, source="benchmark")
    service = Moorage(settings, catalog=catalog)
    serving = asyncio.create_task(service.run())
    stopping = asyncio.create_task(stop.wait())
    say("HANDLED")  # it serves; what has come of which event, the runner reads from the outbound topic
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    service.stop()
    await serving


if __name__ == "__main__":
    run(serve)
