"""What is taken away from every container, and what an engine must take away by itself. No I/O here."""

from collections.abc import Mapping
from typing import Any

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.security import AS_IMAGE, NON_ROOT
from consumer.handling.errors import Permanent
from consumer.provisioners.docker.options import DockerOptions
from consumer.provisioners.text import shortened

_SHARED_MEMORY = 64 * 1024**2
_DIES_BEFORE_THE_HOST = 500
"""Added to a program's badness when the machine is out of memory: environments end before the host's own services."""


def restrictions(spec: EnvironmentSpec, options: DockerOptions) -> dict[str, Any]:
    """The part of `HostConfig` that is the same for everybody, but for what a template gives back.

    Seccomp, masked paths and, where the machine has it, AppArmor are the engine's defaults as long as nothing is said
    of them. The host's namespaces, devices and folders are given to nobody.
    """
    security = spec.security
    files = security.open_files or options.open_files
    host: dict[str, Any] = {
        "Init": True,
        "CapDrop": ["ALL"],
        "CapAdd": [*security.capabilities],
        "SecurityOpt": [] if security.new_privileges else ["no-new-privileges"],
        "PidsLimit": security.pids or options.pids_limit,
        "Ulimits": [_limit("nofile", files), _limit("core", 0), *options.dialect.ulimits],
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "ShmSize": _SHARED_MEMORY,
        "OomScoreAdj": _DIES_BEFORE_THE_HOST,
        "LogConfig": {
            "Type": options.dialect.log_driver,
            "Config": {"max-size": f"{options.log_megabytes}m", "max-file": "2"},
        },
    }
    if security.read_only:
        host["ReadonlyRootfs"] = True
    if security.tmpfs:
        host["Tmpfs"] = {path: f"rw,noexec,nosuid,nodev,mode=1777,size={size}" for path, size in security.tmpfs.items()}
    return host


def user_of(spec: EnvironmentSpec) -> str | None:
    """The user that the container is to have instead of the image's."""
    return None if spec.security.user in (AS_IMAGE, NON_ROOT) else spec.security.user


def refuse_root(spec: EnvironmentSpec, user: str) -> None:
    """Raise `Permanent("image_runs_as_root")` when `spec` wants no root, and a container of this `user` may be it.

    A name tells nothing: whoever made the image decides which number it stands for.
    """
    if spec.security.user != NON_ROOT:
        return
    name = user.partition(":")[0]
    if not name.isdecimal():
        who = f"the user {shortened(name, 32)}, whose number is not known" if name else "root"
    elif int(name) == 0:
        who = "root"
    else:
        return
    raise Permanent("image_runs_as_root", f"The image runs as {who}: only a user other than root, by number, may run.")


def confines_system_calls(info: Mapping[str, Any]) -> bool:
    """Whether the engine of this `GET /info` puts containers behind a seccomp profile."""
    for option in info.get("SecurityOptions") or ():
        facts = dict(part.partition("=")[::2] for part in str(option).split(","))
        if facts.get("name") == "seccomp":
            return facts.get("profile") != "unconfined"
    return False


def _limit(name: str, value: int) -> dict[str, Any]:
    return {"Name": name, "Soft": value, "Hard": value}
