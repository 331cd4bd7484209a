"""What an operator should know of an engine before users come: each finding with its remedy."""

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from consumer.catalog.needs import Needs
from consumer.catalog.parameters import Parameter
from consumer.catalog.ports import PortRange
from consumer.handling.errors import ProvisionerError
from consumer.handling.ports import Finding, Level
from consumer.provisioners.docker.container import Container, supports_storage_limit
from consumer.provisioners.docker.dialects import Dialect, lets_limits_pass
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.docker.hardening import confines_system_calls
from consumer.provisioners.docker.options import DockerOptions

_DEFAULT_SOCKET = "unix:///var/run/docker.sock"
_FEW = 0.1
"""The share of free ports below which a range is nearly used up."""

_ENFORCED = (
    (Parameter.MEMORY_LIMIT, "MemoryLimit", "memory"),
    (Parameter.MEMORY_LIMIT, "SwapLimit", "swap"),
    (Parameter.CPU_LIMIT, "CpuCfsQuota", "CPU"),
)


async def diagnose(engine: Engine, options: DockerOptions, needs: Needs) -> list[Finding]:
    """Everything that can be told; when the engine does not answer, why, and nothing else."""
    dialect = options.dialect
    url = options.url or dialect.usual_url() or os.environ.get("DOCKER_HOST") or _DEFAULT_SOCKET
    try:
        version, info = await engine.version(), await engine.info()
        images = await engine.image_names()
        containers = await engine.containers()
    except ProvisionerError as error:
        return [_unreachable(url, error, dialect)]
    name = f"{version.get('Version', 'of unknown version')}, API {version.get('ApiVersion', '?')}"
    return [
        Finding(Level.OK, "engine", f"It answers at {url}: {name}."),
        *_reach(url, options),
        *_limits(info, needs),
        *_images(images, needs, dialect),
        *_ports(containers, needs, dialect),
    ]


def _reach(url: str, options: DockerOptions) -> Iterator[Finding]:
    """Ports of an engine elsewhere that nobody but its own machine reaches."""
    host = urlsplit(url).hostname
    if host is not None and not _is_loopback(host) and _is_loopback(options.bind_host):
        yield Finding(
            Level.WARNING,
            "ports",
            f"They are opened on {options.bind_host} of {host}, where nobody else reaches them.",
            "Bind to an address of that machine: `bind_host` of an engine in the template file, or MOORAGE_BIND_HOST.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unreachable(url: str, error: ProvisionerError, dialect: Dialect) -> Finding:
    """Why nobody answers, as far as the socket tells."""
    message, remedy = error.message, "Start the engine, or correct its address."
    parts = urlsplit(url)
    if parts.scheme == "unix":
        match _knock(parts.path):
            case errno.ENOENT:
                message = f"There is no socket at {parts.path}."
                remedy = "Install and start the engine, or say where it listens."
            case errno.EACCES | errno.EPERM:
                message = f"This user may not use the socket {parts.path}."
                remedy = f"{dialect.denied} Whoever may use the socket of a rootful engine is root on that machine."
            case errno.ECONNREFUSED:
                message = f"Nobody listens at the socket {parts.path}."
                remedy = f"Start the engine: systemctl start {dialect.unit}."
    elif parts.scheme in ("tcp", "http", "https"):
        remedy = "Check the address, the firewall and, with TLS, the certificates; see the engine's log."
    return Finding(Level.ERROR, "engine", message, remedy)


def _knock(path: str) -> int | None:
    """What the system says of a connection to the socket; None when it can be made."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError as error:
            return error.errno
    return None


def _limits(info: Mapping[str, Any], needs: Needs) -> Iterator[Finding]:
    """Limits that templates set and this engine lets pass without a word."""
    if lets_limits_pass(info):
        yield Finding(
            Level.ERROR,
            "limits",
            "A rootless engine with control groups of version 1 enforces no limit on CPU, memory or processes.",
            "Boot with version 2 (systemd.unified_cgroup_hierarchy=1), or use a rootful engine.",
        )
    for parameter, flag, what in _ENFORCED:
        if parameter in needs.limits and info.get(flag) is False:
            remedy = "Enable the kernel's control groups for it (memory: boot with cgroup_enable=memory swapaccount=1)."
            yield Finding(Level.ERROR, "limits", f"This engine does not enforce limits on {what}.", remedy)
    if info.get("PidsLimit") is False:
        yield Finding(
            Level.ERROR,
            "limits",
            "This engine does not bound the number of processes: one user can fill the machine.",
            "Enable the kernel's pids control group.",
        )
    if Parameter.STORAGE_LIMIT in needs.limits and not supports_storage_limit(info):
        yield Finding(
            Level.WARNING,
            "limits",
            f"The storage driver {info.get('Driver', '?')} cannot bound the storage of a container as templates ask.",
            "Use overlay2 on XFS mounted with pquota, btrfs or ZFS; or leave the storage limit out.",
        )
    if not confines_system_calls(info):
        yield Finding(
            Level.ERROR,
            "isolation",
            "This engine filters no system calls (seccomp): nothing is started there.",
            "Use a kernel and an engine with seccomp, and take seccomp-profile: unconfined out of daemon.json.",
        )
    if info.get("BridgeNfIptables") is False:
        yield Finding(
            Level.ERROR,
            "isolation",
            "This machine does not filter what containers of one network send each other.",
            "modprobe br_netfilter; sysctl net.bridge.bridge-nf-call-iptables=1; or MOORAGE_DOCKER_NETWORK=private.",
        )


def _images(present: frozenset[str], needs: Needs, dialect: Dialect) -> Iterator[Finding]:
    for template, image in needs.images:
        short = image.removeprefix("docker.io/library/").removeprefix("docker.io/")
        if {image, short} & present:
            yield Finding(Level.OK, f"template {template}", f"Its image {image} is at hand.")
        elif template in needs.never_pulled:
            yield Finding(
                Level.ERROR,
                f"template {template}",
                f"Its image {image} is not at hand, and `pull: never` forbids to fetch it: no start works.",
                f"Fetch or load it ({dialect.runtime} pull, {dialect.runtime} load), or allow `pull: if-not-present`.",
            )
        else:
            yield Finding(
                Level.WARNING,
                f"template {template}",
                f"Its image {image} is not at hand; the first start fetches it.",
                f"Fetch it beforehand: {dialect.runtime} pull {image}",
            )


def _ports(containers: Iterable[Container], needs: Needs, dialect: Dialect) -> Iterator[Finding]:
    used = {port.host_port for each in containers for port in each.ports}
    for template, ports in needs.host_ports:
        yield _range(template, ports, sum(port in ports for port in used), dialect)


def _range(template: str, ports: PortRange, used: int, dialect: Dialect) -> Finding:
    count = ports.last - ports.first + 1
    free = count - used
    subject, message = f"template {template}", f"Of its host ports {ports}, {free} of {count} are free."
    if free > count * _FEW:
        return Finding(Level.OK, subject, message)
    remedy = f"Widen `host_ports`, or end what holds them ({dialect.runtime} ps)."
    return Finding(Level.WARNING if free > 0 else Level.ERROR, subject, message, remedy)
