"""kubectl, as a function: it knows every kind of object and every way into a cluster that a kubeconfig can tell of."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.kubebox import program, ready_program

_NO_CACHE = "--cache-dir=/dev/null/none"  # what it would keep in the user's home is soon about a cluster that is gone
_SECONDS = 120


def kubectl(kubeconfig: Path, *arguments: str, stdin: str = "") -> str:
    """What it writes to its output. Raises CalledProcessError, with what it complained of as a note."""
    command = [path_of_kubectl(), f"--kubeconfig={kubeconfig}", _NO_CACHE, *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=_SECONDS)
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr.strip())
        raise
    return done.stdout


def create(kubeconfig: Path, *objects: Mapping[str, Any]) -> dict[str, Any]:
    """Create objects; returns the one, or a list of them in `items`, as the cluster has them now."""
    return _with_objects(kubeconfig, "create", objects)


def apply(kubeconfig: Path, *objects: Mapping[str, Any]) -> dict[str, Any]:
    """The same for objects that may be there, which are changed."""
    return _with_objects(kubeconfig, "apply", objects)


def path_of_kubectl() -> str:
    """That of Kubernetes' programs here, or this machine's own. Raises ServiceMissing where none can be had."""
    return ready_program("kubectl") or shutil.which("kubectl") or program("kubectl")


def _with_objects(kubeconfig: Path, verb: str, objects: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    made: dict[str, Any] = json.loads(
        kubectl(kubeconfig, verb, "--filename=-", "--output=json", stdin=json.dumps(items))
    )
    return made
