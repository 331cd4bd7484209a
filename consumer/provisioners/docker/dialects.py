"""How the engines differ that serve the Docker Engine's API: what is not the same for all of them is said here."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any


class Meaning(Enum):
    """What an engine says in words that another says by its status, or in other words."""

    CONFLICT = auto()
    """The name is taken, or the container's state forbids it now."""
    MISSING = auto()
    REFUSED = auto()
    """It will never take these settings."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of engine.

    `engine` is its name within a sentence, `runtime` that in templates and results. `unit` is what systemd starts,
    `denied` helps who may not use its socket. `socket` is where it listens, below /run for root and below the user's
    runtime directory; None where the client knows that itself. `log_driver` bounds a container's output. `ulimits` are
    asked for where the engine's own default is more than many machines grant. `death` is the event of a container that
    ends, as filters name it. `words` are read before any status.

    What some engines take without a word and do not do: with `keeps_apart` there are networks on which containers reach
    neither each other nor the cloud's metadata service, with `gives_devices` they get GPUs and devices, and with
    `bounds_volumes` a volume has a size, or is refused one.
    """

    runtime: str
    engine: str
    unit: str
    denied: str
    log_driver: str
    death: str
    socket: str | None = None
    ulimits: tuple[Mapping[str, Any], ...] = ()
    keeps_apart: bool = True
    gives_devices: bool = True
    bounds_volumes: bool = True
    words: tuple[tuple[re.Pattern[str], Meaning], ...] = ()

    @property
    def subject(self) -> str:
        """Its name at the beginning of a sentence."""
        return self.engine[0].upper() + self.engine[1:]

    def usual_url(self) -> str | None:
        """The address of the local engine; for a user who is not root, of their own if there is one."""
        if self.socket is None:
            return None
        folders = [Path("/run")]
        if own := os.environ.get("XDG_RUNTIME_DIR"):
            folders.insert(1 if os.geteuid() == 0 else 0, Path(own))
        sockets = [folder / self.socket for folder in folders]
        return f"unix://{next((socket for socket in sockets if socket.exists()), sockets[0])}"

    def read(self, said: str) -> tuple[Meaning | None, str]:
        """What it means, if it is in our words, and the text from there on: much comes before that says nothing."""
        for words, meaning in self.words:
            if found := words.search(said):
                return meaning, said[found.start() :]
        return None, said


DOCKER = Dialect(
    runtime="docker",
    engine="the Docker Engine",
    unit="docker",
    denied="Add the user to the socket's group (usermod --append --groups docker USER, then log in anew), or use a "
    "rootless engine.",
    log_driver="json-file",
    death="die",
)

PODMAN = Dialect(
    runtime="podman",
    engine="Podman",
    unit="podman.socket",
    denied="Use the user's own Podman (systemctl --user enable --now podman.socket), or run as root.",
    log_driver="k8s-file",
    death="died",  # though the events themselves are called `die`
    socket="podman/podman.sock",
    # Left to itself Podman sets 1,048,576, which fails on a machine that does not grant root that much.
    ulimits=({"Name": "nproc", "Soft": 16384, "Hard": 16384},),
    keeps_apart=False,
    gives_devices=False,
    bounds_volumes=False,
    # All of it comes with status 500.
    words=(
        (re.compile(r"name .* is already in use|container state improper"), Meaning.CONFLICT),
        (re.compile(r"network not found|unable to find network"), Meaning.MISSING),
        (
            re.compile(
                r"invalid reference format|no command or entrypoint provided|Cwd must be an absolute path"
                r"|container-init binary not found|error setting rlimit|unable to set memory limit"
            ),
            Meaning.REFUSED,
        ),
    ),
)


def dialect_of(greeting: Mapping[str, str]) -> Dialect:
    """Who answered a `GET /_ping` with these headers."""
    return PODMAN if "Libpod-Api-Version" in greeting else DOCKER


def lets_limits_pass(info: Mapping[str, Any]) -> bool:
    """Whether what shows this `GET /info` takes limits of CPU, memory and processes and enforces none of them.

    A rootless engine may not use control groups of version 1, and says in the same answer that it supports limits.
    """
    return "name=rootless" in (info.get("SecurityOptions") or ()) and str(info.get("CgroupVersion")) == "1"
