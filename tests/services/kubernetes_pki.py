"""A certificate authority for one cluster, and the kubeconfigs with which its parts and its users come in."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
import yaml

_NO_SERVER = ["client.invalid"]
"""Go refuses a certificate whose list of names is empty, of a client's too."""


@dataclass(frozen=True)
class Pki:
    """Certificates in `folder`, by which components know each other and the admin is let in."""

    folder: Path
    authority: trustme.CA

    @classmethod
    def create(cls, folder: Path) -> "Pki":
        folder.mkdir(mode=0o700)
        pki = cls(folder, trustme.CA())
        pki.authority.cert_pem.write_to_path(str(pki.ca))
        return pki

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    def certificate(
        self, file: str, *names: str, user: str | None = None, group: str | None = None
    ) -> tuple[Path, Path]:
        """The paths of a certificate and its key: for a server the `names` it has, for a client `user` and `group`."""
        issued = self.authority.issue_cert(*(names or _NO_SERVER), common_name=user, organization_name=group)
        certificate, key = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key

    def kubeconfig(self, server: str, user: str, group: str | None = None) -> Path:
        """One with which `user` is let in."""
        certificate, key = self.certificate(user.replace(":", "-"), user=user, group=group)
        who = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
        cluster = {"server": server, "certificate-authority-data": _base64(self.ca)}
        return write_kubeconfig(self.folder / f"{certificate.stem}.kubeconfig", cluster, who)


def write_kubeconfig(path: Path, cluster: dict[str, Any], user: dict[str, Any], namespace: str = "default") -> Path:
    """A kubeconfig with one context, which nobody else may read."""
    context = {"cluster": "moorage", "user": "moorage", "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "moorage", "cluster": cluster}],
        "users": [{"name": "moorage", "user": user}],
        "contexts": [{"name": "moorage", "context": context}],
        "current-context": "moorage",
    }
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.safe_dump(content, file)
    return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
