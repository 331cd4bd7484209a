"""All that belongs to an environment but its pod, as the API takes it. No I/O here."""

import base64
from collections.abc import Collection
from typing import Any

from consumer.catalog.environment import EnvironmentSpec, Volume
from consumer.catalog.identity import KEY
from consumer.provisioners.kubernetes.kinds import ANCHOR, Object, name_of, namespace_of, uid_of
from consumer.provisioners.kubernetes.names import annotations_for, label_value, labels_for
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.pods import AUTHORIZED_KEYS
from consumer.provisioners.kubernetes.routes import note_of

_ANCHOR = "moorage/anchor"
_SERVICE_TYPES = {"cluster": "ClusterIP", "node-port": "NodePort", "load-balancer": "LoadBalancer"}
_CLOSED = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "168.63.129.16/32",  # Azure's service for its machines, which is as good as a metadata service
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "240.0.0.0/4",
)
_CLOSED_V6 = ("64:ff9b::/96", "fc00::/7", "fe80::/10")
"""Private and reserved networks, the nodes among them, what gateways translate to IPv4, and link-local addresses: that
of a cloud's metadata service is one."""

_LOCAL_DNS = "169.254.20.10/32"
"""Where a DNS cache on the nodes listens, if there is one."""


def anchor_of(spec: EnvironmentSpec, namespace: str, options: KubernetesOptions) -> dict[str, Any]:
    """What an environment is known by, and all else of it belongs to."""
    about = _about(spec, namespace, options)
    return {"metadata": about | {"annotations": about["annotations"] | note_of(spec)}}


def belonging_to(anchors: Collection[Object]) -> str:
    """What selects all that belongs to these anchors."""
    return f"{_ANCHOR} in ({','.join(map(uid_of, anchors))})"


def owned_by(anchor: Object, spec: EnvironmentSpec, options: KubernetesOptions) -> dict[str, Any]:
    """The metadata of what goes with its anchor, in its namespace; the anchor is gone no sooner than it."""
    about = _about(spec, namespace_of(anchor), options)
    return about | {"labels": about["labels"] | label_of(anchor), "ownerReferences": [owner_of(anchor)]}


def label_of(anchor: Object) -> dict[str, str]:
    """The label that all of an anchor has: its own id, which no other has that comes after it."""
    return {_ANCHOR: uid_of(anchor)}


def owner_of(anchor: Object) -> dict[str, Any]:
    """What names an anchor as the owner of something."""
    return {
        "apiVersion": ANCHOR.api_version,
        "kind": ANCHOR.name,
        "name": name_of(anchor),
        "uid": uid_of(anchor),
        "blockOwnerDeletion": True,
    }


def service_of(spec: EnvironmentSpec, about: dict[str, Any], options: KubernetesOptions) -> dict[str, Any]:
    kind = spec.kubernetes.service or options.service
    ports = []
    for port in spec.ports:
        entry: dict[str, Any] = {
            "name": f"{port.protocol}-{port.container}",
            "port": port.service or port.container,
            "targetPort": port.container,
            "protocol": port.protocol.upper(),
        }
        if kind == "node-port" and port.host is not None:
            entry["nodePort"] = port.host
        ports.append(entry)
    return {"metadata": about, "spec": {"type": _SERVICE_TYPES[kind], "selector": {KEY: spec.key}, "ports": ports}}


def secret_of(spec: EnvironmentSpec, about: dict[str, Any]) -> dict[str, Any]:
    """The variables, since any may be a secret, and the SSH key."""
    key = {AUTHORIZED_KEYS: f"{spec.login.key.line}\n"} if spec.login is not None else {}
    return {"metadata": about, "immutable": True, "stringData": dict(spec.environment) | key}


def has_values_of(secret: Object, body: Object) -> bool:
    """Whether a secret that is there holds just what `body` would have it hold."""
    wanted = {name: base64.b64encode(value.encode()).decode() for name, value in body["stringData"].items()}
    return bool((secret.get("data") or {}) == wanted)


def network_policy_of(spec: EnvironmentSpec, about: dict[str, Any]) -> dict[str, Any]:
    """In: to the ports that were asked for. Out: to the internet and the cluster's DNS."""
    inside = [{"port": port.container, "protocol": port.protocol.upper()} for port in spec.ports]
    dns = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    servers = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    internet = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": [*_CLOSED]}},
        {"ipBlock": {"cidr": "::/0", "except": [*_CLOSED_V6]}},
    ]
    return {
        "metadata": about,
        "spec": {
            "podSelector": {"matchLabels": {KEY: spec.key}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": inside}] if inside else [],
            "egress": [{"to": [servers, {"ipBlock": {"cidr": _LOCAL_DNS}}], "ports": dns}, {"to": internet}],
        },
    }


def claim_of(volume: Volume, namespace: str, options: KubernetesOptions) -> dict[str, Any]:
    """The claim of a volume. It belongs to no anchor: what is kept outlives its environment."""
    labels = {name: label_value(value) for name, value in volume.labels.items()}
    size = str(volume.size_bytes) if volume.size_bytes is not None else options.volume_size
    access = volume.access_mode or options.volume_access
    spec: dict[str, Any] = {"accessModes": [access], "resources": {"requests": {"storage": size}}}
    if (storage_class := volume.storage_class or options.storage_class) is not None:
        spec["storageClassName"] = storage_class
    about = {"name": volume.name, "namespace": namespace, "labels": labels, "annotations": dict(volume.labels)}
    return {"metadata": about, "spec": spec}


def _about(spec: EnvironmentSpec, namespace: str, options: KubernetesOptions) -> dict[str, Any]:
    return {
        "name": spec.name,
        "namespace": namespace,
        "labels": labels_for(spec, options.instance),
        "annotations": annotations_for(spec, options.instance),
    }
