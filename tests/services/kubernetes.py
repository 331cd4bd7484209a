"""Kubernetes for tests and demos: the cluster that a kubeconfig names, or one of our own.

One of our own has simulated nodes, to which pods are scheduled and become ready at once without anything that runs; or
else one node with a kubelet, which runs them.
"""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.services import kubectl, kubelet, simulated_nodes
from tests.services.kubebox import prepare_programs
from tests.services.kubernetes_account import Rule, make_account
from tests.services.missing import ServiceMissing, say
from tests.services.rundir import DidNotStart, RunDir, wait_until_ready

Request = tuple[str, str, str]
"""Verb, API group (empty for the core's) and resource, with its subresource behind a slash."""

_SIMULATED, _REAL = "MOORAGE_TEST_KUBECONFIG", "MOORAGE_TEST_KUBELET_KUBECONFIG"
_READY_SECONDS = 60


@dataclass(frozen=True)
class Kubernetes:
    """A cluster that answers whoever has `kubeconfig`, its admin's."""

    kubeconfig: Path
    run_dir: RunDir | None = None
    """Where our own cluster lives; None for one that was here before us."""

    @classmethod
    def start(cls, *, runs_pods: bool = False, keep: bool = False) -> Self:
        """The cluster of MOORAGE_TEST_KUBECONFIG, or one of our own. Raises ServiceMissing.

        One that `runs_pods` is that of MOORAGE_TEST_KUBELET_KUBECONFIG, or of our own with a kubelet.
        """
        if path := os.environ.get(_REAL if runs_pods else _SIMULATED):
            return cls(Path(path))
        return cls.start_own(runs_pods=runs_pods, keep=keep)

    @classmethod
    def start_own(cls, *, runs_pods: bool = False, keep: bool = False) -> Self:
        """A cluster that shares nothing with any other on this machine."""
        prepare_programs()
        if runs_pods:
            kubelet.prepare_kubelet()
        run_dir = RunDir.create("kubelet" if runs_pods else "kubernetes", keep=keep)
        say(f"starting Kubernetes with {'a kubelet' if runs_pods else 'simulated nodes'}")
        try:
            start = kubelet.start_with_kubelet if runs_pods else simulated_nodes.start_with_simulated_nodes
            plane = start(run_dir)
            cluster = cls(plane.admin_kubeconfig, run_dir)
            cluster.kubectl("wait", "node", "--all", "--for=condition=Ready", f"--timeout={_READY_SECONDS}s")
            run_dir.announce(_REAL if runs_pods else _SIMULATED, str(cluster.kubeconfig))
        except DidNotStart as error:
            run_dir.end()
            raise ServiceMissing(f"Kubernetes cannot run here: {error}") from error
        except BaseException:
            run_dir.end()
            raise
        return cluster

    @property
    def ours(self) -> bool:
        """Whether a run of ours started it: with simulated nodes or a kubelet, and an audit log that we can read."""
        return self.audit_log.exists()

    @property
    def audit_log(self) -> Path:
        """Where our own API server writes what service accounts ask it."""
        return self.kubeconfig.with_name("audit.log")

    def stop(self) -> None:
        """End our own cluster with all that is in it; one that was here before us is left alone."""
        if self.run_dir is not None:
            self.run_dir.end()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Nobody answers meanwhile: our own cluster's API server was killed, and is then started as it was."""
        assert self.run_dir is not None, "somebody else's cluster is not ours to kill"
        (server,) = [process for process in self.run_dir.processes() if process.name() == "kube-apiserver"]
        command = server.cmdline()
        server.kill()
        server.wait()
        try:
            yield
        finally:
            log = self.run_dir.path / "kube-apiserver.log"
            started = self.run_dir.launch(command, log)
            wait_until_ready(started, self._serves, seconds=_READY_SECONDS, log=log)

    def _serves(self) -> bool:
        try:
            return self.kubectl("get", "--raw=/readyz") == "ok"
        except subprocess.CalledProcessError:
            return False

    def kubectl(self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None) -> str:
        """What kubectl writes to its output; see there."""
        return kubectl.kubectl(kubeconfig or self.kubeconfig, *arguments, stdin=stdin)

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list of objects in `items`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change objects."""
        kubectl.apply(self.kubeconfig, *objects)

    def load(self, image: bytes) -> None:
        """Give an image, as `docker save` writes it, to the node of our own cluster that runs pods."""
        assert self.ours, "somebody else's nodes pull their images themselves"
        kubelet.load_image(self.kubeconfig.parent, image)

    def push(self, image: bytes, name: str, login: str) -> None:
        """Give such an image to the registry in its name, which has no TLS; `login` is user:password."""
        assert self.ours, "somebody else's nodes push nothing for us"
        kubelet.push_image(self.kubeconfig.parent, image, name, login)

    def do_without_tls(self, registry: str) -> None:
        """Have the node of our own cluster that runs pods pull from a registry (host:port) that has none."""
        assert self.ours, "somebody else's nodes know by themselves where they pull from"
        kubelet.do_without_tls(self.kubeconfig.parent, registry)

    @contextmanager
    def namespace(self, labels: Mapping[str, str] | None = None) -> Iterator[str]:
        """The name of a new namespace that takes pods, removed in the background with all that is in it."""
        name = f"test-{uuid.uuid4().hex[:10]}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}})
        try:
            self.kubectl("wait", f"--namespace={name}", "serviceaccount/default", "--for=create", "--timeout=30s")
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")

    def account(self, namespace: str, rules: Sequence[Rule], to: Path, *, everywhere: Sequence[Rule] = ()) -> Path:
        """Write a kubeconfig (to `to`) of a new service account that may do what the rules say, and nothing else.

        `rules` hold in its namespace, `everywhere` in all and for what is in none.
        """
        return make_account(self.kubeconfig, namespace, rules, everywhere, to)

    def requests_of(self, namespace: str) -> set[Request]:
        """What the service accounts of this namespace asked for, as our own cluster's audit log has it."""
        events = [json.loads(line) for line in self.audit_log.read_text().splitlines()]
        user = f"system:serviceaccount:{namespace}:"
        return {_request(event) for event in events if event["user"]["username"].startswith(user)}


def prepare_kubernetes() -> None:
    """Build or unpack what a cluster of our own needs. Raises ServiceMissing where that cannot be."""
    if os.environ.get(_SIMULATED):
        kubectl.path_of_kubectl()
    else:
        prepare_programs()


def prepare_kubernetes_that_runs_pods() -> None:
    """The same with a kubelet."""
    if os.environ.get(_REAL):
        kubectl.path_of_kubectl()
    else:
        prepare_programs()
        kubelet.prepare_kubelet()


def _request(event: Mapping[str, Any]) -> Request:
    about = event.get("objectRef", {})
    resource = "/".join(filter(None, [about.get("resource"), about.get("subresource")]))
    return event["verb"], about.get("apiGroup", ""), resource or event["requestURI"].partition("?")[0]
