"""What peers need and the project does not: virtual environments and jars, made on demand below .cache/benchmarks."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import ROOT

PEERS = Path(__file__).with_name("peers")
_CACHE = ROOT / ".cache" / "benchmarks"


class Missing(Exception):
    """A peer cannot take part on this machine; the message says why."""


def cached(name: str, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """The folder that `make` filled from these files; made anew when one of them changes. Raises Missing."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = _CACHE / f"{name}-{digest}"
    if not folder.is_dir():
        print(f"preparing {name} in {folder.relative_to(ROOT)}", file=sys.stderr, flush=True)
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE, prefix=f"{name}-new-") as new:
            make(Path(new) / "made")
            (Path(new) / "made").rename(folder)
    return folder


def virtual_environment(name: str, *, oldest: tuple[int, int]) -> Path:
    """The Python of a virtual environment with the packages of peers/NAME.txt. Raises Missing."""
    requirements = PEERS / f"{name}.txt"
    base = _python(oldest)

    def make(folder: Path) -> None:
        run([base, "-m", "venv", str(folder)])
        # Moved after it was made, so only its python is of use, not its scripts.
        run([str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)])

    return cached(name, [requirements], make) / "bin" / "python"


def pinned(name: str, package: str) -> str:
    """The version of a package in peers/NAME.txt."""
    found = re.search(rf"(?m)^{re.escape(package)}==(\S+)", (PEERS / f"{name}.txt").read_text())
    assert found is not None
    return found[1]


def run(command: list[str]) -> str:
    """The output of a program that prepares something. Raises Missing when it fails."""
    try:
        # Fixed commands, nothing of them comes from outside.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError as error:
        raise Missing(f"there is no {command[0]} on this machine") from error
    if done.returncode:
        raise Missing(f"`{' '.join(command[:4])} …` failed: {(done.stdout + done.stderr).strip()[-500:]}")
    return done.stdout + done.stderr


def _python(oldest: tuple[int, int]) -> str:
    """This Python if it is new enough, or the newest one that can be found."""
    if sys.version_info >= oldest:
        return sys.executable
    minors = range(14, oldest[1] - 1, -1)
    on_path = [found for minor in minors if (found := shutil.which(f"python3.{minor}"))]
    of_pyenv = sorted((Path.home() / ".pyenv/versions").glob("3.*/bin/python"), key=_minor, reverse=True)
    for candidate in (*on_path, *(str(each) for each in of_pyenv if _minor(each) in minors)):
        try:
            run([candidate, "-c", "import ensurepip, ssl"])  # pyenv's shims are there without a Python behind them
        except Missing:
            continue
        return candidate
    raise Missing("it needs Python {}.{} or newer".format(*oldest))


def _minor(python: Path) -> int:
    return int(python.parts[-3].split(".")[1])
