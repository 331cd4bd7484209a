"""Kinds of objects that other projects define, for a cluster to know, though nobody does anything with them.

Each comes from its project's Go module, fetched once for this user.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.services.kubernetes import Kubernetes
from tests.services.missing import ServiceMissing, say


@dataclass(frozen=True)
class Definition:
    """A CustomResourceDefinition. `module` is with its version, `checksum` as go.sum has it."""

    plural: str
    group: str
    module: str
    checksum: str
    file: str


HTTP_ROUTES = Definition(
    "httproutes",
    "gateway.networking.k8s.io",
    "sigs.k8s.io/gateway-api@v1.5.1",
    "h1:RqVRIlkhLhUO8wOHKTLnTJA6o/1un4po4/6M1nRzdd0=",
    "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
)
SERVICE_MONITORS = Definition(
    "servicemonitors",
    "monitoring.coreos.com",
    "github.com/prometheus-operator/prometheus-operator@v0.94.1",
    "h1:QEIb2wenPH+SdMN1xMf8l4Pmj00YYXXI6HlbLlQWkww=",
    "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
)
SCALED_OBJECTS = Definition(
    "scaledobjects",
    "keda.sh",
    "github.com/kedacore/keda/v2@v2.21.0",
    "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
    "config/crd/bases/keda.sh_scaledobjects.yaml",
)


def define(cluster: Kubernetes, *definitions: Definition) -> None:
    """Return once the cluster serves them; what it has under that name already is left as it is.

    Raises ServiceMissing where they cannot be had.
    """
    for definition in definitions:
        _create(cluster, path_of(definition))
    for definition in definitions:
        while not _serves(cluster, definition):
            time.sleep(0.1)


def path_of(definition: Definition) -> Path:
    """A file for `kubectl create`. Raises ServiceMissing where it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorage"
    version = definition.module.partition("@")[2]
    kept = cache / "definitions" / f"{definition.plural}.{definition.group}-{version}.yaml"
    if not kept.exists():
        if shutil.which("go") is None:
            raise ServiceMissing(f"{definition.plural} are not here: install Go 1.26 or newer to have them fetched")
        say(f"fetching {definition.plural} from a Go module")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            copy = Path(folder, kept.name)
            shutil.copyfile(_fetched(definition, folder) / definition.file, copy)
            copy.replace(kept)
    return kept


def _fetched(definition: Definition, folder: str) -> Path:
    """Where Go keeps the module. `folder` has none of its own."""
    command = ["go", "mod", "download", "-json", definition.module]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1000:]
        raise ServiceMissing(f"{definition.module} could not be fetched: {said}")
    module = json.loads(done.stdout)
    if module["Sum"] != definition.checksum:
        raise ServiceMissing(f"{definition.module} is not what it was: its checksum is {module['Sum']}")
    return Path(module["Dir"])


def _create(cluster: Kubernetes, file: Path) -> None:
    try:
        cluster.kubectl("create", f"--filename={file}")
    except subprocess.CalledProcessError as error:
        if "AlreadyExists" not in error.stderr:
            raise


def _serves(cluster: Kubernetes, definition: Definition) -> bool:
    """It is listed a moment before there is anything that could keep such objects."""
    try:
        cluster.kubectl("get", f"{definition.plural}.{definition.group}", "--all-namespaces", "--output=name")
    except subprocess.CalledProcessError:
        return False
    return True
