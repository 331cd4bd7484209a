#!/usr/bin/env python3
"""Make the virtual environment that the Makefile's targets run in. Standard library only; quick when nothing changed.

Profile `demo` is what `moorage demo` needs; `dev` adds the tests, the checkers and everything else. The packages are
those of requirements/*.txt, each checked against its hash.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

# A Python too old for Moorage must still understand this file, to say so.
OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
SATISFIED_BY = {"demo": ["demo", "dev"], "dev": ["dev"]}
"""The profiles that hold everything a profile holds."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the project's virtual environment.")
    parser.add_argument("profile", choices=sorted(SATISFIED_BY))
    parser.add_argument("--venv", default=".venv", help="its folder, relative to the project's (default: .venv)")
    arguments = parser.parse_args()
    use_a_python_new_enough()
    venv = ROOT / arguments.venv
    if not any(is_current(venv, profile) for profile in SATISFIED_BY[arguments.profile]):
        started = time.monotonic()
        create(venv)
        install(venv, arguments.profile)
        say(f"ready after {time.monotonic() - started:.0f} s")


def use_a_python_new_enough() -> None:
    """Go on in another interpreter of this machine if this one is too old. Ends the program if there is none."""
    if sys.version_info >= OLDEST:
        return
    for name in ("python3.14", "python3.13", "python3.12", "python3.11"):
        path = shutil.which(name)
        if path and subprocess.call([path, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(path, [path, *sys.argv])  # noqa: S606 - no shell is the point
    stop(
        "Moorage needs Python {}.{} or newer, and this is {}.{}.".format(*OLDEST, *sys.version_info[:2]),
        "Install one, or name it: make PYTHON=/path/to/python3.11 ...",
    )


def create(venv: Path) -> None:
    """A virtual environment of this Python's version; one that works is kept."""
    if python_version(venv) == sys.version:
        return
    try:
        import ensurepip  # noqa: F401 - Debian splits it off, and only `venv` would tell, at length
        import venv as venv_module
    except ImportError:
        version = "{}.{}".format(*sys.version_info[:2])
        stop(
            f"this Python ({sys.executable}) cannot make virtual environments.",
            f"On Debian and Ubuntu: apt-get install python3-venv (or python{version}-venv), then try again.",
        )
    say(f"making {venv.name} with Python {sys.version.split()[0]}")
    venv_module.create(venv, clear=True, with_pip=True)


def install(venv: Path, profile: str) -> None:
    lock = lock_file(profile)
    say(f"installing {lock.relative_to(ROOT)} (the first time takes a minute)")
    # The lock names all there is. An old pip would look for newer versions of what is asked for with an extra.
    pip(venv, "--require-hashes", "--no-deps", "-r", str(lock))
    say("installing moorage itself")
    pip(venv, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    stamp_file(venv, profile).write_text(stamp(profile))


def pip(venv: Path, *arguments: str) -> None:
    command = [str(python_in(venv)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    if subprocess.call(command, stdin=subprocess.DEVNULL) != 0:
        stop("pip could not install them; its message is above.", "Mend what it says (network? disk?) and try again.")


def is_current(venv: Path, profile: str) -> bool:
    file = stamp_file(venv, profile)
    return file.exists() and file.read_text() == stamp(profile) and python_version(venv) == sys.version


def stamp(profile: str) -> str:
    """What the installed packages follow from."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (lock_file(profile), ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def stamp_file(venv: Path, profile: str) -> Path:
    return venv / f"moorage-{profile}.stamp"


def lock_file(profile: str) -> Path:
    return ROOT / "requirements" / f"{profile}.txt"


def python_version(venv: Path) -> "str | None":
    """The version in a virtual environment; None if there is none, or it has lost the Python it was made from."""
    command = [str(python_in(venv)), "-c", "import pip, sys; print(sys.version)"]
    try:
        return subprocess.check_output(command, stderr=subprocess.DEVNULL).decode().rstrip("\n")
    except (OSError, subprocess.CalledProcessError):
        return None


def python_in(venv: Path) -> Path:
    return venv / "bin" / "python"


def say(text: str) -> None:
    print(f"[bootstrap] {text}", file=sys.stderr, flush=True)


def stop(*lines: str) -> None:
    for line in lines:
        say(line)
    sys.exit(1)


if __name__ == "__main__":
    main()
