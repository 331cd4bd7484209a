"""Containers as data: what is asked of the engine, and what it shows. No I/O here."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from aiodocker.containers import DockerContainer

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import IMAGE, IMAGE_DIGEST
from consumer.handling.errors import Permanent
from consumer.handling.ports import Ending, Environment, Status
from consumer.provisioners.access import build_access, hints_of, reachable_host
from consumer.provisioners.docker.attachments import attachments
from consumer.provisioners.docker.hardening import restrictions, user_of
from consumer.provisioners.docker.images import Content
from consumer.provisioners.docker.options import DockerOptions
from consumer.provisioners.labels import environment_of, labels_of
from consumer.provisioners.readiness import Health
from schemas.outbound import AccessPort

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,62}")
_STATUS = {
    "created": Status.STOPPED,
    "exited": Status.STOPPED,
    "paused": Status.STOPPED,
    "running": Status.RUNNING,
    "restarting": Status.STARTING,
    "removing": Status.DYING,
    "dead": Status.DYING,
}

_HEALTH = {"starting": Health.STARTING, "healthy": Health.HEALTHY, "unhealthy": Health.UNHEALTHY}


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine shows it. `state` is the engine's own word.

    `exit_code`, `out_of_memory`, `restarts` and `health` are known from inspecting alone.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    state: str
    ports: tuple[AccessPort, ...] = ()
    image: str | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    user: str = ""
    restarts: int | None = None
    health: Health = Health.NONE

    @property
    def status(self) -> Status:
        return _STATUS.get(self.state, Status.STOPPED)

    @classmethod
    def from_inspection(cls, shown: Mapping[str, Any]) -> Self:
        """From `GET /containers/{id}/json`."""
        published = (shown.get("NetworkSettings") or {}).get("Ports") or {}
        bindings = (
            (*port.split("/"), binding["HostPort"]) for port, bound in published.items() for binding in bound or ()
        )
        return cls(
            id=shown["Id"],
            name=shown["Name"].lstrip("/"),
            labels=shown["Config"].get("Labels") or {},
            state=shown["State"]["Status"],
            ports=_ports(bindings),
            image=shown["Config"].get("Image"),
            exit_code=shown["State"].get("ExitCode"),
            out_of_memory=bool(shown["State"].get("OOMKilled")),
            user=shown["Config"].get("User") or "",
            restarts=shown.get("RestartCount"),
            health=_HEALTH.get((shown["State"].get("Health") or {}).get("Status", ""), Health.NONE),
        )

    @classmethod
    def from_summary(cls, shown: DockerContainer) -> Self:
        """From an entry of `GET /containers/json`."""
        bindings = (
            (port["PrivatePort"], port.get("Type", "tcp"), port.get("PublicPort")) for port in shown["Ports"] or ()
        )
        return cls(
            id=shown["Id"],
            name=shown["Names"][0].lstrip("/"),
            labels=shown["Labels"] or {},
            state=shown["State"],
            ports=_ports(bindings),
            image=shown["Image"],
        )

    def environment(self, options: DockerOptions) -> Environment:
        host = reachable_host(options.bind_host, options.public_host)
        shown = environment_of(
            self.labels,
            runtime=options.runtime,
            name=self.name,
            native_id=self.id,
            status=self.status,
            access=build_access(host, self.ports, hints_of(self.labels)),
            image=self.labels.get(IMAGE, self.image),
            image_digest=self.labels.get(IMAGE_DIGEST),
        )
        if self.status is not Status.STOPPED or self.exit_code is None:
            return shown
        return replace(shown, ending=Ending(self.exit_code, self.out_of_memory))


def creation(
    spec: EnvironmentSpec, content: Content, options: DockerOptions, *, with_storage_limit: bool
) -> dict[str, Any]:
    """The body of `POST /containers/create`. Raises `Permanent("invalid_spec")` for what no engine takes."""
    if not _NAME.fullmatch(spec.name):
        raise Permanent("invalid_spec", "The environment's name cannot be the name of a container.")
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        binding = {"HostIp": options.bind_host, "HostPort": str(port.host or "")}
        bindings.setdefault(f"{port.container}/{port.protocol}", []).append(binding)
    config: dict[str, Any] = {
        "Image": content.reference,
        "Hostname": spec.name,
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": labels_of(spec, options.instance) | _image_labels(spec, content),
        "ExposedPorts": {port: {} for port in bindings},
        "HostConfig": _limits(spec, options, with_storage_limit=with_storage_limit)
        | attachments(spec)
        | {"PortBindings": bindings},
    }
    if spec.entrypoint:
        config["Entrypoint"] = list(spec.entrypoint)
    if (user := user_of(spec)) is not None:
        config["User"] = user
    if spec.command:
        config["Cmd"] = list(spec.command)
    if spec.working_dir:
        config["WorkingDir"] = spec.working_dir
    return config


def _image_labels(spec: EnvironmentSpec, content: Content) -> dict[str, str]:
    return {IMAGE: spec.image} | ({IMAGE_DIGEST: content.digest} if content.digest else {})


def supports_storage_limit(info: Mapping[str, Any]) -> bool:
    """Whether the storage driver that `GET /info` shows may take a size; whether it does, only creating tells."""
    driver = info.get("Driver")
    backing = {str(name): str(value) for name, value in info.get("DriverStatus") or ()}.get("Backing Filesystem")
    return driver in ("btrfs", "zfs", "devicemapper") or (driver in ("overlay2", "overlay") and backing == "xfs")


def _limits(spec: EnvironmentSpec, options: DockerOptions, *, with_storage_limit: bool) -> dict[str, Any]:
    limits = spec.limits
    host = restrictions(spec, options)
    if limits.cpu_millis is not None:
        host["NanoCpus"] = limits.cpu_millis * 1_000_000
    if limits.memory_bytes is not None:
        # Without the same bound on memory and swap together, a container may swap as much again.
        host |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
    if limits.storage_bytes is not None and with_storage_limit:
        host["StorageOpt"] = {"size": str(limits.storage_bytes)}
    return host


def _ports(bindings: Iterable[tuple[Any, Any, Any]]) -> tuple[AccessPort, ...]:
    # One port bound on IPv4 and IPv6 is shown twice; the first is the one asked for.
    ports: dict[tuple[int, str], AccessPort] = {}
    for inside, protocol, outside in bindings:
        if protocol in ("tcp", "udp") and outside:
            port = AccessPort(port=int(inside), host_port=int(outside), protocol=protocol)
            ports.setdefault((port.port, port.protocol), port)
    return tuple(ports.values())
