"""One folder for each service we start, and the law of ending it: only what names that folder is ever killed.

A service's processes carry the folder's path on their command line, containers of our own engine its name in their
cgroup. So whoever ends a folder, the run that made it or a later one that found its owner dead, needs no list of
process ids that may have been given to somebody else since.
"""

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_LAUNCHED: dict[Path, list[subprocess.Popen[bytes]]] = {}
"""This process's children, to be reaped when their folder ends."""

_PROGRAMS = ("java", "dockerd", "containerd", "docker-registry", "runc", "unshare", "etcd", "kube", "kwok")
"""Beginnings of the names of programs that we start, or that those start: somebody's `tail` of a log is none."""


@dataclass(frozen=True)
class RunDir:
    path: Path

    @classmethod
    def create(cls, service: str, *, keep: bool = False) -> "RunDir":
        """A new folder owned by this process and ended at its exit; with `keep`, owned by nobody until `end()`."""
        end_stale()
        base = _base()
        made = Path(tempfile.mkdtemp(prefix=f"{service}-", dir=base / "new"))
        owner = None if keep else {"pid": os.getpid(), "created": psutil.Process().create_time()}
        (made / "owner").write_text(json.dumps(owner))
        run_dir = cls(made.rename(base / made.name))  # appears under its name only once its owner is written
        if not keep:
            atexit.register(run_dir._end_at_exit, os.getpid())
        return run_dir

    @property
    def service(self) -> str:
        return self.path.name.partition("-")[0]

    @property
    def address(self) -> tuple[str, str]:
        """The environment variable by which others find what runs here, and its value; empty before it runs."""
        try:
            variable, value = json.loads((self.path / "address").read_text())
        except FileNotFoundError:
            return "", ""
        return variable, value

    def announce(self, variable: str, value: str) -> None:
        (self.path / "address").write_text(json.dumps([variable, value]))

    @property
    def kept(self) -> bool:
        return self._owner() is None

    @property
    def stale(self) -> bool:
        """Its owner is gone without having ended it."""
        owner = self._owner()
        if owner is None:
            return False
        try:
            return abs(psutil.Process(int(owner["pid"])).create_time() - owner["created"]) > 1
        except psutil.NoSuchProcess:
            return True

    def launch(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a program that names this folder on its command line. Ctrl-C does not reach it: we end it in order."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.path, start_new_session=True
            )
        _LAUNCHED.setdefault(self.path, []).append(process)
        return process

    def processes(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._names(process)]

    def end(self) -> None:
        """Kill what still runs here, undo what it did to the machine, and remove the folder. Harmless twice."""
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        for launched in _LAUNCHED.pop(self.path, []):
            launched.wait()
        for undo in UNDO:
            undo(self.path)
        _unmount_below(self.path)
        remove_cgroups(self.path.name)
        shutil.rmtree(self.path, ignore_errors=True)

    def _end_at_exit(self, owner: int) -> None:
        if os.getpid() == owner and self.path.exists():  # a forked child is not the owner
            self.end()

    def _owner(self) -> dict[str, float] | None:
        owner: dict[str, float] | None = json.loads((self.path / "owner").read_text())
        return owner

    def _names(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if process.name().startswith(_PROGRAMS) and any(str(self.path) in word for word in process.cmdline()):
                return True
            return f"/{self.path.name}/" in Path(f"/proc/{process.pid}/cgroup").read_text()
        except (psutil.Error, OSError):
            return False


UNDO: list[Callable[[Path], None]] = []
"""What services add for things they change outside their folder; each is given the folder, and may find nothing."""


class DidNotStart(RuntimeError):
    """A program ended or did not become ready; the message carries the end of its log."""


def wait_until_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], *, seconds: float, log: Path) -> None:
    """Return once `ready()`. Raises DidNotStart when the process has exited or the time is over."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            became = f"is not ready after {seconds:g} s" if process.returncode is None else "exited"
            raise DidNotStart(f"{log.stem} {became}; its log ends:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)


def run_dirs() -> Iterator[RunDir]:
    """Every folder of this user, whoever made it."""
    for owner in sorted(_base().glob("*/owner")):
        yield RunDir(owner.parent)


def end_stale() -> None:
    """End what killed runs left behind."""
    for run_dir in run_dirs():
        with contextlib.suppress(FileNotFoundError):  # another run ends it at the same time
            if run_dir.stale:
                run_dir.end()


@contextlib.contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """No other process of this user does it meanwhile."""
    with (_base() / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _base() -> Path:
    base = Path(tempfile.gettempdir()) / f"moorage-services-{os.getuid()}"
    (base / "new").mkdir(mode=0o700, parents=True, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        raise RuntimeError(f"{base} belongs to another user; remove it or set TMPDIR")
    return base


def remove_cgroups(name: str, *, deep: bool = True) -> None:
    """Remove these cgroups, with all below them if `deep`, from every hierarchy. Those with processes stay."""
    roots = Path("/sys/fs/cgroup")
    for group in [group for depth in ("", "*/") for group in roots.glob(f"{depth}{name}")]:
        for folder in sorted([group, *(group.glob("**/") if deep else ())], reverse=True):  # the deepest first
            with contextlib.suppress(OSError):
                folder.rmdir()


def _unmount_below(path: Path) -> None:
    """Storage and network mounts that a killed engine left: a folder with mounts cannot be removed."""
    try:
        mounts = Path("/proc/self/mounts").read_text()
    except OSError:
        return
    below = [point for line in mounts.splitlines() if (point := line.split()[1]).startswith(f"{path}/")]
    for point in sorted(below, key=len, reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
