"""Volumes that outlive pods: claimed or found before one is made, and given up with it where that is wanted."""

import asyncio
from typing import Any

from consumer.catalog.environment import EnvironmentSpec, Volume
from consumer.catalog.errors import Refused
from consumer.catalog.identity import INSTANCE, MANAGED_BY
from consumer.catalog.quantities import parse_bytes
from consumer.catalog.volumes import RECLAIM, VOLUME
from consumer.handling.errors import Permanent, Transient
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Conflicting
from consumer.provisioners.kubernetes.kinds import CLAIM, Object, is_dying, name_of, namespace_of
from consumer.provisioners.kubernetes.manifests import claim_of
from consumer.provisioners.kubernetes.names import selector
from consumer.provisioners.kubernetes.objects import Objects
from consumer.provisioners.kubernetes.options import KubernetesOptions

_LOOK_AGAIN = 0.1
"""Seconds after which it is looked again."""


class Volumes:
    """The claims of one installation. Only what carries its labels is ever used or removed."""

    def __init__(self, client: Client, objects: Objects, options: KubernetesOptions) -> None:
        self._client, self._objects, self._options = client, objects, options

    async def ensure(self, spec: EnvironmentSpec, anchor: Object) -> tuple[str, ...]:
        """Get or create the claim of `spec`'s volume, beside the anchor.

        Returns sentences for the user on what is not as they expect. Raises `Permanent("conflict")` when its name is
        somebody else's, and `Transient("runtime_busy")` when the anchor is not there any more.
        """
        if (volume := spec.volume) is None:
            return ()
        body = claim_of(volume, namespace_of(anchor), self._options)
        claim, new = await self._have(body)
        if new and volume.labels.get(RECLAIM) == "delete":
            await self._is_wanted(claim, anchor)
        if not self._is(claim, volume):
            raise Permanent("conflict", f"The volume {volume.name} belongs to something Moorage did not make.")
        size = claim["spec"]["resources"]["requests"]["storage"]  # as the API writes it: 2G, and not 2000000000
        if volume.size_bytes is not None and _bytes(size) != volume.size_bytes:
            return ("The volume keeps the size that it was made with.",)
        return ()

    async def temporary(self, key: str) -> list[Object]:
        """The claims that go with the reservation of `key`."""
        ours = selector(self._options.instance, key, **{RECLAIM: "delete"})
        return await self._client.list(CLAIM, ours, self._options.scope)

    async def _is_wanted(self, claim: Object, anchor: Object) -> None:
        """Whoever removed the environment meanwhile did not see the claim, and nobody looks for it again."""
        try:
            await self._objects.still(anchor)
        except Transient:
            await self._objects.delete(CLAIM, claim)
            raise

    async def _have(self, body: dict[str, Any]) -> tuple[Object, bool]:
        """The claim, and whether it is new."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.gone_timeout
        while True:
            if (seen := await self._client.get(CLAIM, body)) is not None:
                if not is_dying(seen):
                    return seen, False
                await self._objects.gone(CLAIM, seen)
            try:
                return await self._objects.create(CLAIM, body), True
            except Conflicting as error:  # somebody was quicker
                if loop.time() > deadline:
                    why = f"The volume {name_of(body)} can neither be made nor found."
                    raise Transient("runtime_busy", why) from error
            await asyncio.sleep(_LOOK_AGAIN)

    def _is(self, claim: Object, volume: Volume) -> bool:
        annotations = claim["metadata"].get("annotations") or {}
        ours = {MANAGED_BY: "moorage", INSTANCE: self._options.instance, VOLUME: volume.key}
        return all(annotations.get(name) == value for name, value in ours.items())


def _bytes(size: str) -> int | None:
    """None for a size that nobody can ask Moorage for, which somebody else wrote: `1500m`, as Kubernetes has it."""
    try:
        return parse_bytes(size)
    except Refused:
        return None
