"""Which images an engine already has."""

import asyncio

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError


async def local_images(url: str | None, *, timeout: float = 3.0) -> frozenset[str]:
    """The tags (`name:tag`) an engine has at hand; empty when none answers within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout), Docker(url) as docker:
            images = await docker.images.list()
    except (DockerError, aiohttp.ClientError, OSError, ValueError, TimeoutError, AssertionError):
        # The client asserts that there is a socket.
        return frozenset()
    return frozenset(tag for image in images for tag in image.get("RepoTags") or () if tag != "<none>:<none>")
