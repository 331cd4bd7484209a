"""Kubernetes' programs: those in the folder that KUBEBUILDER_ASSETS names, for the rest one binary that holds them all.

That binary is built once for this user from Kubernetes' own Go modules (kubebox/go.mod says which), unless somebody
put one that was built before beside the project. The folder that it lies in has a link for each program, so
KUBEBUILDER_ASSETS may name that, too.
"""

import lzma
import os
import re
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

from tests.services.missing import ServiceMissing, say

_SOURCE = Path(__file__).with_name("kubebox")
_BUILT_BEFORE = Path(__file__).parents[3] / "shared" / "bin" / "kubebox.xz"
_CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl")
_NODE = ("kubelet", "kube-proxy")


def program(name: str) -> str:
    """The path of a program. Raises ServiceMissing where it can neither be found nor built."""
    if (given := _given(name)) is not None:
        return given
    return str(_kubebox() / name)


def ready_program(name: str) -> str | None:
    """The same if it is there, without building it."""
    built = _folder() / name
    return _given(name) or (str(built) if built.exists() else None)


def prepare_programs() -> None:
    """Build what is not there, which takes ten minutes the first time. Raises ServiceMissing."""
    for name in (*_CONTROL_PLANE, *_NODE):
        program(name)


def _given(name: str) -> str | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    return shutil.which(name, path=assets) if assets else None


def _folder() -> Path:
    recipe = sha256(b"".join((_SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go")))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorage"
    return cache / f"kubernetes-{recipe.hexdigest()[:12]}"


def _kubebox() -> Path:
    folder = _folder()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            programs = Path(made, "programs")
            programs.mkdir()
            binary = programs / "kubebox"
            if not _unpack(binary):
                _build(binary)
            for name in (*_CONTROL_PLANE, *_NODE):
                (programs / name).symlink_to(binary.name)
            try:
                programs.rename(folder)
            except OSError:
                if not folder.is_dir():  # else somebody was quicker
                    raise
    return folder


def _unpack(binary: Path) -> bool:
    """Whether one that was built before is there, and of this version."""
    if not _BUILT_BEFORE.exists():
        return False
    say(f"unpacking {_BUILT_BEFORE.name}")
    try:
        with lzma.open(_BUILT_BEFORE) as packed, binary.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
        binary.chmod(0o755)
        said = subprocess.run([binary, "kube-apiserver", "--version"], capture_output=True, text=True)
    except (lzma.LZMAError, EOFError, OSError):  # half a file, or another machine's
        return False
    return said.stdout.split() == ["Kubernetes", _version()]


def _build(binary: Path) -> None:
    if shutil.which("go") is None:
        raise ServiceMissing(
            "Kubernetes' programs are not here: install Go 1.26 or newer to have them built,"
            " or set KUBEBUILDER_ASSETS to a folder that has them"
        )
    say("building Kubernetes from its Go modules, which takes ten minutes and is done once")
    version = _version()
    minor = version.split(".")[1]
    marks = {"gitVersion": version, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
    flags = ["-s", "-w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        for name, value in (marks | {"buildDate": "1970-01-01T00:00:00Z"}).items():
            flags += ["-X", f"{package}.{name}={value}"]
    command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(flags)]
    done = subprocess.run(
        [*command, "-o", str(binary), "."],
        cwd=_SOURCE,
        env=os.environ | {"CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServiceMissing(f"Kubernetes could not be built: {done.stderr.strip()[-1000:]}")


def _version() -> str:
    found = re.search(r"^\tk8s\.io/kubernetes (v\S+)$", (_SOURCE / "go.mod").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]
