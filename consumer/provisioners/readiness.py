"""Waiting until an environment is ready: running is not, what its users will use must answer."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

from consumer.catalog.environment import EnvironmentSpec
from consumer.handling.errors import Permanent
from consumer.handling.ports import Environment, Progress, Report
from consumer.provisioners.text import last_words, scrubbed
from schemas.outbound import Access

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_ATTEMPT = 3.0
"""Seconds that one connection may take to be made and to answer."""

_STAYS = 0.25
"""Seconds that a connection must stay open: whoever publishes a port for a program accepts before the program does, and
hangs up when there is nobody behind it."""

_STATUS_LINE = 1_024
_WORDS = 150


class Health(Enum):
    """What the check that an image brings says of its program."""

    NONE = auto()
    STARTING = auto()
    HEALTHY = auto()
    UNHEALTHY = auto()


@dataclass(frozen=True, slots=True)
class Look:
    """An environment at one moment, as far as it matters here."""

    environment: Environment
    health: Health = Health.NONE


async def until_ready(
    spec: EnvironmentSpec,
    look: Callable[[], Awaitable[Look]],
    output: Callable[[], Awaitable[str]],
    report: Report,
) -> Environment:
    """The environment, once what `spec.ready` asks for holds.

    `look` raises when the program has ended meanwhile; `output` is what it wrote last. Raises
    `Permanent("not_ready")` when it takes too long or the image's own check fails, with the program's last words.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + spec.ready.within, _FIRST_PAUSE
    told = False
    while True:
        seen = await look()
        missing = await _missing(spec, seen)
        if missing is None:
            return seen.environment
        unhealthy = spec.ready.health and seen.health is Health.UNHEALTHY
        if unhealthy or loop.time() + pause > deadline:
            late = "" if unhealthy else f" within {spec.ready.within:g} s"
            raise Permanent("not_ready", f"{missing}{late}.{said(spec, await output())}")
        if not told:
            told = True
            report(Progress("waiting", missing))
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def said(spec: EnvironmentSpec, output: str) -> str:
    """The end of what a program wrote, as a sentence of a message to its user; empty when it wrote nothing."""
    words = last_words(scrubbed(output, spec.environment), _WORDS)
    return f" It said: {words}" if words else ""


async def _missing(spec: EnvironmentSpec, seen: Look) -> str | None:
    """What keeps it from being ready, as the beginning of a sentence; None when nothing does."""
    ready = spec.ready
    if ready.health and seen.health in (Health.STARTING, Health.UNHEALTHY):
        return "The health check of the image did not pass"
    if ready.port is None or await _answers(seen.environment.access, ready.port, ready.path):
        return None
    return f"Nothing answered on port {ready.port}" if ready.path is None else f"No page answered on port {ready.port}"


async def _answers(access: Access, port: int, path: str | None) -> bool:
    """Whether the port of the environment answers where its users will use it."""
    outside = next((each.host_port for each in access.ports if (each.port, each.protocol) == (port, "tcp")), None)
    if outside is None:
        return False
    try:
        async with asyncio.timeout(_ATTEMPT):
            reader, writer = await asyncio.open_connection(access.host, outside, limit=_STATUS_LINE)
            try:
                return await (_stays(reader) if path is None else _serves(reader, writer, access.host, path))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError):
        return False


async def _stays(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(_STAYS):
            return bool(await reader.read(1))  # whoever speaks first, as sshd does, is there; an end means nobody is
    except TimeoutError:
        return True


async def _serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str) -> bool:
    """Whether a page is answered with anything but an error of the server: who wants a login is ready too."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: moorage\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    version, _, rest = (await reader.readuntil(b"\n")).partition(b" ")
    status = rest[:3]
    return version.startswith(b"HTTP/") and status.isdigit() and 100 <= int(status) < 500
