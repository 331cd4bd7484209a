"""The folder and the namespaces that a Podman of our own lives in.

It has process and mount namespaces to itself: when its first process is killed, every container, helper and mount goes
with it, and neither its locks nor its networks' files are those of another Podman on this machine.
"""

import json
import os
import shlex
from pathlib import Path

from tests.services.cni import default_network, remove_rules
from tests.services.host_network import HostNetwork
from tests.services.missing import ServiceMissing
from tests.services.rundir import UNDO, remove_cgroups

_USER = 65530
"""Who a rootless service runs as. Only the service's own /etc/passwd knows this user."""

_SEEN_AT = "/mnt/moorage"
"""Where the service sees its folder, since the way to the real one is closed to other users."""


def url_of(folder: Path) -> str:
    return f"unix://{folder}/socket/podman.sock"


def command_of(folder: Path) -> list[str]:
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *namespaces, "sh", f"{folder}/service.sh"]


def write_service(folder: Path, *, rootless: bool) -> None:
    """Write all that the service reads. Raises ServiceMissing where a rootful one could not publish ports."""
    for name in ("home", "xdg", "socket", "netns", "cni", "networks", "etc"):
        (folder / name).mkdir()
    further_networks = "" if rootless else _claim_network(folder)
    (folder / "containers.conf").write_text(
        f"""\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_config_dir = "{_SEEN_AT}/networks"
{further_networks}
"""
    )
    # As with Docker, a registry on loopback needs no TLS.
    (folder / "registries.conf").write_text('[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n')
    lines = [*_FOR_BOTH, *(_ROOTLESS if rootless else _ROOTFUL), _SERVICE]
    become = f"setpriv --reuid {_USER} --regid {_USER} --clear-groups" if rootless else ""
    script = "\n".join(lines).format(folder=shlex.quote(str(folder)), here=_SEEN_AT, become=become)
    (folder / "service.sh").write_text(script)
    if rootless:
        _move_in(folder)


def _move_in(folder: Path) -> None:
    """Make the folder a rootless user's, and know that user."""
    folder.chmod(0o755)
    for name in ("home", "xdg", "socket", "networks"):
        os.chown(folder / name, _USER, _USER)
    etc = {
        "passwd": f"root:x:0:0::/root:/bin/sh\nberth:x:{_USER}:{_USER}::{_SEEN_AT}/home:/bin/sh\n",
        "group": f"root:x:0:\nberth:x:{_USER}:\n",
        "subuid": "berth:100000:65536\n",
        "subgid": "berth:100000:65536\n",
    }
    for name, content in etc.items():
        (folder / "etc" / name).write_text(content)


def _claim_network(folder: Path) -> str:
    """Make the default network in a range that nothing uses; returns where further ones shall be."""
    network = HostNetwork.claim(folder)
    if not network.usable:
        raise ServiceMissing("Podman publishes ports by iptables, which does not work here")
    description = json.dumps(default_network(network.bridge, network.own))
    (folder / "networks" / "podman.conflist").write_text(description)
    pool = f'{{"base" = "{network.pool}", "size" = 24}}'
    return f'default_subnet = "{network.own}"\ndefault_subnet_pools = [{pool}]'


_FOR_BOTH = (
    "set -eu",
    "mount --make-rprivate /",
    "mount -t tmpfs tmpfs /mnt",
    "mkdir {here}",
    "mount --bind {folder} {here}",
    "cd {here}",
    "mount -t tmpfs tmpfs /dev/shm",  # where Podman keeps its locks
    # For each `/info` and `/version` Podman asks it what packages its helpers are from, which takes most of a second.
    "if [ -e /usr/bin/dpkg ]; then mount --bind /bin/false /usr/bin/dpkg; fi",
    "export HOME={here}/home XDG_RUNTIME_DIR={here}/xdg",
    "export CONTAINERS_CONF={here}/containers.conf CONTAINERS_REGISTRIES_CONF={here}/registries.conf",
)
_ROOTFUL = (
    "mkdir -p /var/lib/cni /run/netns",
    "mount --bind {here}/cni /var/lib/cni",
    "mount --bind {here}/netns /run/netns",
)
_ROOTLESS = (
    "mount -t overlay overlay -o lowerdir={here}/etc:/etc /etc",
    "mknod -m 666 {here}/tun c 10 200",  # the machine's own may be root's alone
    "mount --bind {here}/tun /dev/net/tun",
)
# The first process stays root's: one that changes its user forgets that it shall end with ours.
_SERVICE = (
    "exec catatonit -- {become} podman --root {here}/home/storage --runroot {here}/xdg/run --tmpdir {here}/xdg/tmp"
    " --storage-driver overlay system service --time=0 unix://{here}/socket/podman.sock\n"
)


def _remove_rules(folder: Path) -> None:
    if (network := HostNetwork.claimed(folder)) is not None and (folder / "containers.conf").exists():
        remove_rules(network.prefix)


def _remove_cgroups(folder: Path) -> None:
    """A container's cgroup is named after it, and lies in one that all Podmans of this machine share."""
    for container in folder.glob("home/storage/overlay-containers/*/"):
        remove_cgroups(f"libpod_parent/libpod-{container.name}")
    if (folder / "containers.conf").exists():
        for shared in ("libpod_parent/conmon", "libpod_parent"):
            remove_cgroups(shared, deep=False)


UNDO.insert(0, _remove_rules)  # before the network is given back, which tells whose rules they are
UNDO.append(_remove_cgroups)
