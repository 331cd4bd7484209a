"""Kubernetes' own programs as a control plane on this machine: etcd, API server, controllers, scheduler.

Ownership of objects, garbage collection, namespaces, quotas, Pod Security, RBAC: all of it is the real thing. What a
service account asks for is written to a file before it is answered.
"""

import contextlib
import http.client
import ipaddress
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.services.kubebox import program
from tests.services.kubernetes_pki import Pki
from tests.services.ports import free_port
from tests.services.rundir import RunDir, wait_until_ready

_START_SECONDS = 60
_ADMISSION = "NodeRestriction,PodSecurity,ResourceQuota,LimitRanger,NamespaceLifecycle,ServiceAccount"
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
"""
_IMPATIENT = ["--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=500"]


@dataclass(frozen=True)
class Addresses:
    """Where a control plane is to be found, and which addresses its Services get."""

    host: str = "127.0.0.1"
    services: str = "10.96.0.0/16"

    @property
    def service_of_the_api(self) -> str:
        """Its address for pods: the first of the range."""
        return str(ipaddress.ip_network(self.services)[1])


@dataclass(frozen=True)
class ControlPlane:
    """What runs in `run_dir`, at `server`."""

    run_dir: RunDir
    pki: Pki
    server: str

    @classmethod
    def start(cls, run_dir: RunDir, addresses: Addresses) -> "ControlPlane":
        """Returns when it serves, with the default namespace ready for pods. Raises DidNotStart, ServiceMissing."""
        etcd_port, api_port = free_port(), free_port()
        plane = cls(run_dir, Pki.create(run_dir.path / "pki"), f"https://{addresses.host}:{api_port}")
        admin = plane.kubeconfig("admin", "system:masters")
        admin.rename(plane.admin_kubeconfig)
        (run_dir.path / "audit-policy.yaml").write_text(_AUDIT_POLICY)
        plane.pki.certificate("service-accounts", user="service-accounts")  # the key that signs their tokens

        plane._start_etcd(etcd_port)
        api_server = plane._start_api_server(addresses, etcd_port, api_port)
        plane._wait(api_server, "kube-apiserver", "/readyz")
        controllers = plane._start_controllers()
        plane.launch("kube-scheduler", *plane._serving_nobody("system:kube-scheduler"), *_IMPATIENT)
        plane._wait(controllers, "kube-controller-manager", "/api/v1/namespaces/default/serviceaccounts/default")
        return plane

    @property
    def admin_kubeconfig(self) -> Path:
        return self.run_dir.path / "kubeconfig"

    def kubeconfig(self, user: str, group: str | None = None) -> Path:
        return self.pki.kubeconfig(self.server, user, group)

    def launch(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of Kubernetes' programs."""
        return self.run_dir.launch([program(name), *arguments], self._log(name))

    def has(self, path: str) -> bool:
        """Whether the API server answers, and has what the path names."""
        context = ssl.create_default_context(cafile=self.pki.ca)
        context.load_cert_chain(self.pki.folder / "admin.crt", self.pki.folder / "admin.key")
        host = self.server.removeprefix("https://")
        with contextlib.closing(http.client.HTTPSConnection(host, timeout=5, context=context)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def _log(self, name: str) -> Path:
        return self.run_dir.path / f"{name}.log"

    def _start_etcd(self, port: int) -> None:
        certificate, key = self.pki.certificate("etcd", "127.0.0.1")
        client, peer = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
        self.launch(
            "etcd",
            "--name=etcd",
            f"--data-dir={self.run_dir.path}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--cert-file={certificate}",
            f"--key-file={key}",
            "--client-cert-auth",
            f"--trusted-ca-file={self.pki.ca}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=etcd={peer}",
            "--log-level=warn",
        )

    def _start_api_server(self, addresses: Addresses, etcd_port: int, port: int) -> subprocess.Popen[bytes]:
        in_cluster = [f"kubernetes{suffix}" for suffix in ("", ".default", ".default.svc")]
        names = [addresses.host, addresses.service_of_the_api, "localhost", *in_cluster]
        certificate, key = self.pki.certificate("api-server", *names)
        etcd_certificate, etcd_key = self.pki.certificate("etcd-client", user="kube-apiserver")
        kubelet_certificate, kubelet_key = self.pki.certificate(
            "kubelet-client", user="kube-apiserver-kubelet-client", group="system:masters"
        )
        reconciler = "none" if addresses.host.startswith("127.") else "lease"  # pods could not reach loopback
        return self.launch(
            "kube-apiserver",
            f"--etcd-servers=https://127.0.0.1:{etcd_port}",
            f"--etcd-cafile={self.pki.ca}",
            f"--etcd-certfile={etcd_certificate}",
            f"--etcd-keyfile={etcd_key}",
            f"--bind-address={addresses.host}",
            f"--advertise-address={addresses.host}",
            f"--endpoint-reconciler-type={reconciler}",
            f"--secure-port={port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.pki.ca}",
            f"--service-cluster-ip-range={addresses.services}",
            "--authorization-mode=Node,RBAC",
            f"--enable-admission-plugins={_ADMISSION}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.pki.folder}/service-accounts.key",
            f"--service-account-signing-key-file={self.pki.folder}/service-accounts.key",
            f"--kubelet-client-certificate={kubelet_certificate}",
            f"--kubelet-client-key={kubelet_key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged",
            f"--audit-policy-file={self.run_dir.path}/audit-policy.yaml",
            f"--audit-log-path={self.run_dir.path}/audit.log",
            "--audit-log-mode=blocking",
        )

    def _start_controllers(self) -> subprocess.Popen[bytes]:
        return self.launch(
            "kube-controller-manager",
            *self._serving_nobody("system:kube-controller-manager"),
            *_IMPATIENT,
            f"--root-ca-file={self.pki.ca}",
            f"--service-account-private-key-file={self.pki.folder}/service-accounts.key",
            "--use-service-account-credentials",
        )

    def _serving_nobody(self, user: str) -> list[str]:
        """How a program is told who it is, and not to serve its metrics."""
        return [f"--kubeconfig={self.kubeconfig(user)}", "--secure-port=0"]

    def _wait(self, process: subprocess.Popen[bytes], name: str, path: str) -> None:
        wait_until_ready(process, lambda: self.has(path), seconds=_START_SECONDS, log=self._log(name))
