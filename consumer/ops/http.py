"""What operators' tools ask over HTTP: is it alive, is it ready, and its metrics."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from consumer.handling.metering import Latest
from consumer.ops.metrics import Snapshot, exposition

log = structlog.get_logger("moorage.http")


_PATIENCE = 2.0
"""Seconds that an answer under way may take when the service stops."""


class PortTaken(Exception):
    """The port cannot be opened; the message says why."""


@asynccontextmanager
async def served(host: str, port: int, snapshot: Callable[[], Snapshot | None], latest: Latest) -> AsyncIterator[int]:
    """Serve `/livez`, `/readyz` and `/metrics` until the block is left; yields the port, for a `port` of 0 one that is
    free. Raises `PortTaken`.

    What is wrong stands in the body: a line for each alarm. Nobody logs in: keep the port inside.
    """

    async def livez(_: web.Request) -> web.Response:
        shown = snapshot()
        return _state(shown is None or shown.alive, shown)  # before it consumes, there is nothing to be dead of

    async def readyz(_: web.Request) -> web.Response:
        shown = snapshot()
        return _state(shown is not None and shown.ready, shown)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(snapshot, latest), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_PATIENCE)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise PortTaken(f"{host}:{port}: {error.strerror or error}") from error
        opened = runner.addresses[0][1]
        log.info("listening", host=host, port=opened)
        yield opened
    finally:
        await runner.cleanup()


def _state(good: bool, shown: Snapshot | None) -> web.Response:
    alarms = "".join(f"{name}: {about}\n" for name, about in (shown.alarms.items() if shown is not None else ()))
    return web.Response(text=("ok\n" if good else "not ok\n") + alarms, status=200 if good else 503)
