"""Networks of containers: one for all that keeps them apart, one for each, or one that is there already.

Networks we make are found by name and known by labels, like containers.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import structlog

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import INSTANCE, KEY, MANAGED_BY
from consumer.handling.errors import Permanent, ProvisionerError, Transient
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.docker.errors import Conflicting, Missing
from consumer.provisioners.docker.options import ENGINES_OWN, ISOLATED, PRIVATE, DockerOptions

METADATA_ADDRESSES = ("169.254.169.254", "169.254.170.2", "169.254.170.23")
"""Where clouds hand out a machine's identity and credentials: instance metadata, ECS tasks, EKS pods."""

_APART = "com.docker.network.bridge.enable_icc"
_BRIDGE = "com.docker.network.bridge.name"
_TRIES, _LOOK_AGAIN = 5, 0.1
_LEFT_OVER_AFTER = timedelta(hours=1)
_AT_ONCE = 20
_FAREWELL = 5.0

log = structlog.get_logger("moorage.docker")


@dataclass(frozen=True, slots=True)
class Network:
    """A network as the engine lists it."""

    id: str
    name: str
    labels: Mapping[str, str]
    options: Mapping[str, str]
    created: datetime | None

    @classmethod
    def from_listing(cls, shown: Mapping[str, Any]) -> Self:
        return cls(
            id=shown["Id"],
            name=shown["Name"],
            labels=shown.get("Labels") or {},
            options=shown.get("Options") or {},
            created=_moment(shown.get("Created")),
        )


class Networks:
    """Which network a container joins, by `DockerOptions.network`."""

    def __init__(self, engine: Engine, options: DockerOptions) -> None:
        self._engine = engine
        self._options = options
        ours = options.network in (ISOLATED, PRIVATE)
        self._network = ENGINES_OWN if ours and not options.dialect.keeps_apart else options.network
        self._shared: str | None = None
        self._kept: set[str] = set()
        self._making = asyncio.Lock()

    async def join(self, spec: EnvironmentSpec, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config`, as for `creation`, of a container in its network, which is made if need be.

        Raises `Permanent("conflict")` when something else has the network's name, and `Transient("runtime_full")`
        when the engine has no addresses left.
        """
        if self._network == ENGINES_OWN:
            return dict(config)
        joined = dict(config)
        if self._ours:
            network = await self._network_for(spec)
            joined["NetworkingConfig"] = {"EndpointsConfig": {network: self._endpoint()}}
        else:
            network = self._network
        joined["HostConfig"] = {**config["HostConfig"], "NetworkMode": network}
        return joined

    async def leave(self, key: str) -> bool:
        """Remove the network of this key; True if there was one. Its containers have to be gone.

        One that the engine keeps though it has no container is left to `sweep`: Docker 20.10 may miscount endpoints
        until it is restarted, and nobody is let in by an empty network.
        """
        found = await self._labelled(f"{KEY}={key}")
        for network in found:
            for tried in range(_TRIES):
                await asyncio.sleep(_LOOK_AGAIN if tried else 0)
                try:
                    await self._delete(network)
                    break
                except Conflicting as error:
                    if await self._members(network):
                        raise Transient("runtime_busy", "The environment's network is still in use.") from error
            else:
                log.warning("network_kept", network=network.name, why="the engine keeps it though it is empty")
        return bool(found)

    async def sweep(self, keys: Collection[str]) -> None:
        """Remove networks of environments that are gone: of no key in `keys`, and old enough to be nobody's plan.

        Some at a time, and none that makes trouble: whoever lists environments must not wait or fail for it. What the
        engine keeps though it is empty is told once.
        """
        if self._network != PRIVATE:
            return
        long_ago, swept = datetime.now(UTC) - _LEFT_OVER_AFTER, 0
        try:
            networks = await self._labelled(KEY)
        except (Transient, Permanent) as error:
            log.warning("networks_not_listed", why=str(error))
            return
        for network in networks:
            if network.labels[KEY] not in keys and network.created is not None and network.created < long_ago:
                try:
                    await self._delete(network)
                except Conflicting as error:
                    if network.id not in self._kept:
                        log.warning("network_not_removed", network=network.name, why=str(error))
                    self._kept.add(network.id)
                    continue
                except (Transient, Permanent) as error:
                    log.warning("network_not_removed", network=network.name, why=str(error))
                swept += 1
                if swept == _AT_ONCE:
                    return

    def missing(self) -> ProvisionerError:
        """What it means that the engine does not know the network that it was told."""
        self._shared = None
        if self._ours:
            return Transient("runtime_busy", "The environment's network was removed meanwhile; it is made again.")
        return Permanent("invalid_spec", "The network that containers shall join does not exist.")

    async def rejoin(self, spec: EnvironmentSpec, container_id: str) -> None:
        """Have a container that does not run, and whose network was removed, start on a new one next time."""
        self._shared = None
        if self._ours:
            network = await self._network_for(spec)
            with contextlib.suppress(Missing):
                await self._engine.disconnect(network, container_id)
                await self._engine.connect(network, container_id, self._endpoint())

    async def close(self) -> None:
        """Take the shared network away once no container is left that could need it."""
        if self._network != ISOLATED:
            return
        with contextlib.suppress(ProvisionerError, Conflicting, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                shared = [network for network in await self._labelled() if KEY not in network.labels]
                mine = f"{INSTANCE}={self._options.instance}"
                if shared and not await self._engine.containers(f"{MANAGED_BY}=moorage", mine):
                    await asyncio.gather(*map(self._delete, shared))

    @property
    def _ours(self) -> bool:
        return self._network in (ISOLATED, PRIVATE)

    def _endpoint(self) -> dict[str, Any]:
        if not self._options.block_metadata:
            return {}
        # The container itself gets these addresses, so that what is sent there never leaves it. Nothing outside has to
        # be changed for that, and the container has no right to change it back.
        return {"IPAMConfig": {"LinkLocalIPs": [*METADATA_ADDRESSES]}}

    async def _network_for(self, spec: EnvironmentSpec) -> str:
        """The name of the network of `spec`, which exists."""
        if self._network == PRIVATE:
            return await self._get_or_create(spec.name, {KEY: spec.key})
        async with self._making:
            if self._shared is None:
                self._shared = await self._get_or_create(f"moorage-{self._options.instance}", {})
            return self._shared

    async def _get_or_create(self, name: str, labels: Mapping[str, str]) -> str:
        ours = {MANAGED_BY: "moorage", INSTANCE: self._options.instance, **labels}
        config = {
            "Name": name,
            "CheckDuplicate": True,
            "Driver": "bridge",
            "EnableIPv6": False,
            "Labels": ours,
            "Options": {_APART: "false", _BRIDGE: bridge_of(name)},
        }
        for _ in range(_TRIES):
            for shown in await self._engine.networks({"name": [name]}):
                network = Network.from_listing(shown)
                if network.name == name:  # the filter is content with a part of it
                    return _checked(network, ours)
            with contextlib.suppress(Conflicting):  # somebody else made it this moment
                await self._engine.create_network(config)
                return name
            await asyncio.sleep(_LOOK_AGAIN)
        raise Transient("runtime_busy", "The environment's network can neither be made nor found.")

    async def _labelled(self, *labels: str) -> list[Network]:
        ours = (f"{MANAGED_BY}=moorage", f"{INSTANCE}={self._options.instance}")
        shown = await self._engine.networks({"label": [*ours, *labels]})
        return [Network.from_listing(each) for each in shown]

    async def _members(self, network: Network) -> Collection[str]:
        try:
            return await self._engine.network_members(network.id)
        except Missing:
            return ()

    async def _delete(self, network: Network) -> None:
        with contextlib.suppress(Missing):
            await self._engine.delete_network(network.id)


def bridge_of(network: str) -> str:
    """The name of the host's interface that a network of ours has: always the same, for the sake of firewall rules.

    It also keeps two members from making one network twice: names of networks need not be unique, those of bridges do.
    """
    return f"mrg-{hashlib.sha256(network.encode()).hexdigest()[:10]}"


def _checked(network: Network, labels: Mapping[str, str]) -> str:
    if not network.labels.items() >= labels.items():
        raise Permanent("conflict", f"The network {network.name} is something Moorage did not make.")
    if network.options.get(_APART) != "false":
        raise Permanent("conflict", f"The network {network.name} does not keep environments apart.")
    return network.name


def _moment(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text[:19])  # the rest is nanoseconds and Z
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC)
