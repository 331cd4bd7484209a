"""Programs that try something in a container, and how it ended for them."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiodocker.containers import DockerContainer

from tests.provisioners.docker.harness import DockerHarness, shell
from tests.provisioners.harness import ignore

_WITHIN = 40.0

LOOSE: dict[str, Any] = {
    "CapAdd": ["SYS_ADMIN", "NET_ADMIN"],
    "SecurityOpt": ["seccomp=unconfined"],
    "MaskedPaths": [],
    "ReadonlyPaths": [],
}
"""The host part of a container in which everything works that a hardened one must not do."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a script ended, and what it and the shell said."""

    code: int
    said: str


def attempting(script: str) -> tuple[str, ...]:
    """The command of a container that runs `script`, tells its exit code, and then stays."""
    return shell(f"( {script} ) 2>&1; code=$?; echo; echo ended:$code:; exec sleep 1000")


async def ending_of(container: DockerContainer) -> Ending:
    """How the script of `attempting` ended there."""
    deadline = asyncio.get_running_loop().time() + _WITHIN
    while True:
        said = "".join(await container.log(stdout=True, stderr=True))
        if found := re.search(r"^ended:(\d+):", said, re.MULTILINE):
            return Ending(int(found[1]), said[: found.start()].strip())
        assert asyncio.get_running_loop().time() < deadline, f"it never ended; it said {said[-500:]!r}"
        await asyncio.sleep(0.05)


async def hardened(harness: DockerHarness, script: str, reservation: str = "r-1", **changes: Any) -> Ending:
    """How `script` ends in an environment of ours. `changes` are those of a spec."""
    spec = harness.spec(reservation, command=attempting(script), **changes)
    made = await harness.provisioner().ensure(spec, ignore)
    return await ending_of(harness.docker.containers.container(made.native_id))


@asynccontextmanager
async def ordinary(harness: DockerHarness, config: dict[str, Any]) -> AsyncIterator[DockerContainer]:
    """A container that Moorage did not make, while it is needed."""
    container = await harness.docker.containers.create({"Image": harness.image, **config})
    try:
        await container.start()
        yield container
    finally:
        await container.delete(force=True, v=True)


async def loose(harness: DockerHarness, script: str, *, image: str | None = None, **config: Any) -> Ending:
    """How `script` ends in a container that nobody hardened: what must succeed for its failure to mean something."""
    wanted = {"Cmd": list(attempting(script)), "HostConfig": LOOSE, **config}
    async with ordinary(harness, wanted | ({"Image": image} if image else {})) as container:
        return await ending_of(container)
