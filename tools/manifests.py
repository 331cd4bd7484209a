"""Write deploy/kustomize/moorage.yaml from the Helm chart: `python -m tools.manifests`, with helm on the path."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
CHART = DEPLOY / "helm" / "moorage"
MANIFESTS = DEPLOY / "kustomize" / "moorage.yaml"

_HEADER = "# Made from the Helm chart by `python -m tools.manifests`: change that, or write an overlay.\n"
LEAST_KUBERNETES = "--kube-version=1.28.0"
"""What helm takes for the cluster's version, which it does not ask."""

_OF_HELM = ("# Source", "app.kubernetes.io/managed-by", "helm.sh/resource-policy")


def rendered(helm: str, options: Sequence[str] = (), *, release: str = "moorage") -> str:
    """What the chart comes to. Raises CalledProcessError, with what helm complained of in `stderr`."""
    command = [helm, "template", release, str(CHART), "--namespace=moorage", LEAST_KUBERNETES, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def manifests(helm: str = "helm") -> str:
    """The chart with its own values, as files for which helm is not needed."""
    lines = [line for line in rendered(helm).splitlines() if not any(mark in line for mark in _OF_HELM)]
    return _HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    MANIFESTS.write_text(manifests(), encoding="utf-8")
