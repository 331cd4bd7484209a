"""Programs that services need: found on PATH, or installed from the distribution where that is ours to do."""

import functools
import os
import shutil
import subprocess

from tests.services.missing import ServiceMissing, say


def need(programs: dict[str, str]) -> None:
    """Make sure that each program (name: Debian package) can be run. Root on Debian and its kin has it installed.

    Raises ServiceMissing, naming the packages, where installing is not possible.
    """
    packages = sorted({package for program, package in programs.items() if shutil.which(program) is None})
    if packages:
        install(*packages)


def install(*packages: str) -> None:
    """Install Debian packages. Raises ServiceMissing where that is not ours to do, or fails."""
    names = " ".join(packages)
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise ServiceMissing(f"not installed: {names} (Debian's names); install them and try again")
    say(f"installing {names}")
    _update_lists()
    _apt("install", "--yes", "--no-install-recommends", *packages)


@functools.cache
def _update_lists() -> None:
    _apt("update")


def _apt(*arguments: str) -> None:
    # RUNLEVEL=1 keeps packages from starting their daemons: the services here start their own, and end them.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "--quiet", "--option", "DPkg::Lock::Timeout=300", *arguments]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ServiceMissing(f"`{' '.join(command)}` failed: {done.stderr.strip()[-1000:]}")
