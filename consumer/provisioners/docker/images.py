"""Images: which ones an engine has, and what they are."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from consumer.catalog.images import ImageReference, split_name, split_reference


@dataclass(frozen=True, slots=True)
class Content:
    """What a container is made from. `digest` is None for an image that no registry ever held: it has none."""

    reference: str
    digest: str | None = None


def content_of(wanted: str, shown: Mapping[str, Any]) -> Content:
    """The content of an image that `GET /images/{name}/json` shows under the name `wanted`."""
    name, _, digest = split_reference(wanted)
    if digest is not None:
        return Content(wanted, digest)
    for pinned in shown.get("RepoDigests") or ():
        repository, _, known = split_reference(pinned)
        if known is not None and split_name(repository) == split_name(name):
            return Content(pinned, known)
    return Content(wanted)


def full_name(image: str) -> str:
    """`image`, a valid reference, with its registry: `docker.io/library/nginx:1.27` for `nginx:1.27`."""
    name, tag, digest = split_reference(image)
    return str(ImageReference(*split_name(name), tag, digest))


async def local_images(url: str | None, *, timeout: float = 3.0) -> frozenset[str]:
    """The tags (`name:tag`) an engine has at hand; empty when none answers within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout), Docker(url) as docker:
            images = await docker.images.list()
    except (DockerError, aiohttp.ClientError, OSError, ValueError, TimeoutError, AssertionError):
        # The client asserts that there is a socket.
        return frozenset()
    return frozenset(tag for image in images for tag in image.get("RepoTags") or () if tag != "<none>:<none>")
