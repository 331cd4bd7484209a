"""Volumes that outlive containers: made or found before one is created, and taken away with it where that is wanted."""

import asyncio
from collections.abc import Mapping
from typing import Any

from consumer.catalog.environment import EnvironmentSpec, Volume
from consumer.catalog.identity import INSTANCE, KEY, MANAGED_BY
from consumer.catalog.quantities import format_bytes
from consumer.catalog.volumes import RECLAIM, VOLUME
from consumer.handling.errors import Permanent, Transient
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.docker.errors import Conflicting, Missing, NoStorageLimits

_LOOK_AGAIN = 0.1
_FREE_WITHIN = 10.0


class Volumes:
    """The named volumes of one installation on one engine. Only what carries its labels is ever used or removed."""

    def __init__(self, engine: Engine, instance: str) -> None:
        self._engine = engine
        self._instance = instance
        self._sizes: bool | None = None if engine.dialect.bounds_volumes else False
        """Whether the engine's driver takes sizes; None before it was asked."""

    async def ensure(self, spec: EnvironmentSpec) -> tuple[str, ...]:
        """Get or create the volume of `spec`; returns sentences for the user on what is not as the template says.

        Raises `Permanent`: `conflict` when the name is somebody else's, `limit_not_enforceable` when the template
        insists on a size that the driver does not enforce.
        """
        volume = spec.volume
        if volume is None:
            return ()
        shown = await self._engine.volume(volume.name) or await self._create(volume, insist=spec.must_enforce)
        if not self._is(shown, volume):
            raise Permanent("conflict", f"The volume {volume.name} belongs to something Moorage did not make.")
        return self._said_of_size(shown, volume, insist=spec.must_enforce)

    async def remove(self, key: str) -> bool:
        """Remove the volumes that go with the reservation of `key`; True when there were any."""
        labels = (f"{MANAGED_BY}=moorage", f"{INSTANCE}={self._instance}", f"{KEY}={key}", f"{RECLAIM}=delete")
        names = await self._engine.volumes(*labels)
        for name in names:
            await self._delete(name)
        return bool(names)

    async def _create(self, volume: Volume, *, insist: bool) -> Mapping[str, Any]:
        config: dict[str, Any] = {"Name": volume.name, "Labels": dict(volume.labels)}
        if volume.size_bytes is not None and self._sizes is not False:
            try:
                made = await self._engine.create_volume(config | {"DriverOpts": {"size": str(volume.size_bytes)}})
            except NoStorageLimits:
                self._sizes = False
            else:
                self._sizes = True
                return made
        if volume.size_bytes is not None and insist:
            raise _not_enforceable(volume.size_bytes)
        return await self._engine.create_volume(config)

    def _is(self, shown: Mapping[str, Any], volume: Volume) -> bool:
        # Creating a volume that exists is no conflict to the engine: it hands out whatever has the name.
        labels = shown.get("Labels") or {}
        ours = {MANAGED_BY: "moorage", INSTANCE: self._instance, VOLUME: volume.key}
        return all(labels.get(name) == value for name, value in ours.items())

    def _said_of_size(self, shown: Mapping[str, Any], volume: Volume, *, insist: bool) -> tuple[str, ...]:
        if volume.size_bytes is None:
            return ()
        size = (shown.get("Options") or {}).get("size")
        if size is None:
            if insist:
                raise _not_enforceable(volume.size_bytes)
            return (f"The volume's size of {format_bytes(volume.size_bytes)} is not enforced here.",)
        if size != str(volume.size_bytes):
            return ("The volume keeps the size that it was made with.",)
        return ()

    async def _delete(self, name: str) -> None:
        """Return when the volume is gone."""
        deadline = asyncio.get_running_loop().time() + _FREE_WITHIN
        while True:
            try:
                return await self._engine.delete_volume(name)
            except Missing:
                return None
            except Conflicting as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise Transient("runtime_busy", "A volume of this environment is still in use.") from error
            await asyncio.sleep(_LOOK_AGAIN)


def _not_enforceable(size: int) -> Permanent:
    return Permanent("limit_not_enforceable", f"A volume cannot be held to {format_bytes(size)} by this engine.")
