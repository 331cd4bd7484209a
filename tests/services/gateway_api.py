"""The HTTPRoutes of the Gateway API, for a cluster to know: published as a Go module, fetched once for this user."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.services.missing import ServiceMissing, say

_VERSION = "v1.5.1"
_FILE = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"


def path_of_http_routes() -> Path:
    """A file for `kubectl apply --server-side`. Raises ServiceMissing where it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorage"
    kept = cache / f"gateway-api-{_VERSION}" / "httproutes.yaml"
    if not kept.exists():
        if shutil.which("go") is None:
            raise ServiceMissing("the Gateway API is not here: install Go 1.26 or newer to have it fetched")
        say("fetching the Gateway API's Go module")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            copy = Path(folder, kept.name)
            shutil.copyfile(_module(folder) / _FILE, copy)
            copy.replace(kept)
    return kept


def _module(folder: str) -> Path:
    """Where Go keeps the module. `folder` has none of its own."""
    command = ["go", "mod", "download", "-json", f"sigs.k8s.io/gateway-api@{_VERSION}"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ServiceMissing(f"The Gateway API could not be fetched: {(done.stderr or done.stdout).strip()[-1000:]}")
    return Path(json.loads(done.stdout)["Dir"])
