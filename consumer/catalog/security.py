"""What an environment's program is left with beyond computing. Operators decide it, in templates; events never do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

AS_IMAGE = "image"
"""As the user that the image names: root, if it names none."""

NON_ROOT = "non-root"
"""As the user that the image names, and not at all if that is root, or may be."""

CAPABILITIES: Mapping[str, str] = {
    "AUDIT_WRITE": "write to the kernel's audit log, as sshd and sudo do",
    "CHOWN": "change the owner of files",
    "DAC_OVERRIDE": "read and write files whatever their permissions",
    "FOWNER": "change permissions of others' files",
    "FSETID": "keep set-user-id bits on files that change",
    "KILL": "send signals to others' processes",
    "NET_BIND_SERVICE": "listen on ports below 1024 (Docker Engine allows that without)",
    "SETGID": "change groups, as servers do that leave root",
    "SETUID": "change users, as servers do that leave root",
    "SYS_CHROOT": "change the root folder, as sshd does",
}
"""All that a template may give back. What is missing opens a way out of the container, or to its neighbours: NET_RAW
forges packets, MKNOD makes devices, SYS_ADMIN and NET_ADMIN make the rest of this list superfluous."""


@dataclass(frozen=True, slots=True)
class Security:
    """What a container keeps; the defaults leave it nothing that can be taken away without breaking most images.

    `user` is `AS_IMAGE`, `NON_ROOT` or `uid[:gid]`. `new_privileges` lets set-user-id programs (`sudo`) work. `tmpfs`
    has bytes by path. `pids` and `open_files` are None for the runtime's own bounds.
    """

    user: str = AS_IMAGE
    capabilities: tuple[str, ...] = ()
    new_privileges: bool = False
    read_only: bool = False
    tmpfs: Mapping[str, int] = field(default_factory=dict)
    pids: int | None = None
    open_files: int | None = None

    def identity(self) -> Mapping[str, Any]:
        """All of it as JSON can hold it, the same for the same."""
        return {
            "user": self.user,
            "capabilities": sorted(self.capabilities),
            "new_privileges": self.new_privileges,
            "read_only": self.read_only,
            "tmpfs": sorted(self.tmpfs.items()),
            "pids": self.pids,
            "open_files": self.open_files,
        }
