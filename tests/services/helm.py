"""Helm: the one on the path, or one that is built once for this user from its Go module."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.services.missing import ServiceMissing, say

_VERSION = "v3.22.0"


def path_of_helm() -> str:
    """Raises ServiceMissing where it can neither be found nor built."""
    return shutil.which("helm") or str(_built())


def _built() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorage"
    helm = cache / f"helm-{_VERSION}" / "helm"
    if helm.exists():
        return helm
    if shutil.which("go") is None:
        raise ServiceMissing("Helm is not here: install it, or Go 1.26 or newer to have it built")
    say("building Helm from its Go module, which takes some minutes and is done once")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        done = subprocess.run(
            ["go", "install", "-trimpath", f"helm.sh/helm/v3/cmd/helm@{_VERSION}"],
            cwd=folder,
            env=os.environ | {"CGO_ENABLED": "0", "GOBIN": folder, "GOFLAGS": "-buildvcs=false"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ServiceMissing(f"Helm could not be built: {done.stderr.strip()[-1000:]}")
        helm.parent.mkdir(exist_ok=True)
        Path(folder, "helm").replace(helm)
    return helm
