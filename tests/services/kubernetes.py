"""Kubernetes for tests and demos: the cluster that a kubeconfig names, or one of our own.

One of our own has simulated nodes: pods are scheduled to them and become ready at once, and nothing runs.
"""

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.services.control_plane import Addresses, ControlPlane
from tests.services.kubebox import prepare_programs, program
from tests.services.kubernetes_pki import write_kubeconfig
from tests.services.missing import ServiceMissing, say
from tests.services.rundir import DidNotStart, RunDir
from tests.services.simulated_nodes import simulate_nodes, simulated_nodes

Rule = Mapping[str, Sequence[str]]
"""Of RBAC: apiGroups, resources, verbs, perhaps resourceNames."""

Request = tuple[str, str, str]
"""Verb, API group (empty for the core's) and resource, with its subresource behind a slash."""

_FROM_STDIN = ("--filename=-",)
_SECONDS = 60


@dataclass(frozen=True)
class Kubernetes:
    """A cluster that answers whoever has `kubeconfig`, its admin's."""

    kubeconfig: Path
    run_dir: RunDir | None = None
    """Where our own cluster lives; None for one that was here before us."""

    @classmethod
    def start(cls, *, keep: bool = False) -> Self:
        """The cluster of MOORAGE_TEST_KUBECONFIG, or one of our own. Raises ServiceMissing."""
        if path := os.environ.get("MOORAGE_TEST_KUBECONFIG"):
            return cls(Path(path))
        return cls.start_own(keep=keep)

    @classmethod
    def start_own(cls, *, keep: bool = False) -> Self:
        """A control plane on loopback with simulated nodes, which shares nothing with any other."""
        prepare_programs()
        run_dir = RunDir.create("kubernetes", keep=keep)
        try:
            say("starting a Kubernetes control plane")
            plane = ControlPlane.start(run_dir, Addresses())
            cluster = cls(plane.admin_kubeconfig, run_dir)
            simulate_nodes(plane)
            cluster.apply(*simulated_nodes())
            cluster.kubectl("wait", "node", "--all", "--for=condition=Ready", f"--timeout={_SECONDS}s")
            run_dir.announce("MOORAGE_TEST_KUBECONFIG", str(cluster.kubeconfig))
        except DidNotStart as error:
            run_dir.end()
            raise ServiceMissing(f"Kubernetes cannot run here: {error}") from error
        except BaseException:
            run_dir.end()
            raise
        return cluster

    def stop(self) -> None:
        """End our own cluster with all that is in it; one that was here before us is left alone."""
        if self.run_dir is not None:
            self.run_dir.end()

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """What kubectl writes to its output. Raises CalledProcessError, with what it complained of as a note."""
        own = [] if self.run_dir is None else [f"--cache-dir={self.run_dir.path}/kubectl"]
        command = [self._kubectl(), f"--kubeconfig={kubeconfig or self.kubeconfig}", *own, *arguments]
        try:
            done = subprocess.run(command, input=stdin or "", capture_output=True, text=True, check=True, timeout=300)
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr.strip())
            raise
        return done.stdout

    def _kubectl(self) -> str:
        """Our own cluster's is of its version; somebody else's cluster is for the one that this machine has."""
        return (self.run_dir is None and shutil.which("kubectl")) or program("kubectl")

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list of objects in `items`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change objects."""
        if objects:
            items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
            self.kubectl("apply", *_FROM_STDIN, stdin=json.dumps(items))

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
        name = f"account-{uuid.uuid4().hex[:10]}"
        here = {"name": name, "namespace": namespace}
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
            *_grant("Role", here, rules, name),
            *_grant("ClusterRole", here, everywhere, f"{namespace}-{name}"),
        )
        in_namespace = f"--namespace={namespace}"
        token = self.kubectl("create", "token", name, in_namespace, "--duration=6h").strip()
        seen = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        write_kubeconfig(to, seen["clusters"][0]["cluster"], {"token": token}, namespace)
        self._wait_until_allowed(rules[:1], f"system:serviceaccount:{namespace}:{name}", namespace)
        self._wait_until_allowed(everywhere[:1], f"system:serviceaccount:{namespace}:{name}")
        return to

    def requests_of(self, namespace: str) -> set[Request]:
        """What the service accounts of this namespace asked for, as our own cluster's audit log has it."""
        log = self.kubeconfig.with_name("audit.log")
        if not log.exists():
            raise ServiceMissing("this cluster's audit log is not here: unset MOORAGE_TEST_KUBECONFIG")
        events = [json.loads(line) for line in log.read_text().splitlines()]
        user = f"system:serviceaccount:{namespace}:"
        return {_request(event) for event in events if event["user"]["username"].startswith(user)}

    def _wait_until_allowed(self, rules: Sequence[Rule], user: str, namespace: str = "") -> None:
        """Roles come into force some moments after they were made."""
        for rule in rules:
            resource, _, subresource = rule["resources"][0].partition("/")
            asked = {"verb": rule["verbs"][0], "group": rule["apiGroups"][0], "resource": resource}
            spec = {"user": user, "resourceAttributes": asked | {"subresource": subresource, "namespace": namespace}}
            review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
            deadline = time.monotonic() + _SECONDS
            while not json.loads(self.kubectl("create", *_FROM_STDIN, "--output=json", stdin=json.dumps(review)))[
                "status"
            ]["allowed"]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{user} is not let do what it was granted: {rule}")


def prepare_kubernetes() -> None:
    """Build or unpack what a cluster of our own needs. Raises ServiceMissing where that cannot be."""
    if not os.environ.get("MOORAGE_TEST_KUBECONFIG"):
        prepare_programs()
    elif shutil.which("kubectl") is None:
        program("kubectl")


def _grant(kind: str, account: Mapping[str, str], rules: Sequence[Rule], name: str) -> list[dict[str, Any]]:
    """A role (`kind`: Role or ClusterRole) with these rules, and its binding to the account; nothing without rules."""
    if not rules:
        return []
    metadata = {"name": name} | ({"namespace": account["namespace"]} if kind == "Role" else {})
    api = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{api}/v1", "kind": kind, "metadata": metadata, "rules": [dict(rule) for rule in rules]}
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": api, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", **account}],
    }
    return [role, binding]


def _request(event: Mapping[str, Any]) -> Request:
    about = event.get("objectRef", {})
    resource = "/".join(filter(None, [about.get("resource"), about.get("subresource")]))
    return event["verb"], about.get("apiGroup", ""), resource or event["requestURI"].partition("?")[0]
