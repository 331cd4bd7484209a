"""The kinds of objects that an environment is made of, as the API has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
"""An object of the API as JSON has it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """`plural` is its name in paths and in rules of RBAC; `group` is empty for the core."""

    name: str
    plural: str
    group: str = ""
    version: str = "v1"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Where those of a namespace are, or one of them; without a namespace those of all."""
        root = f"/apis/{self.group}" if self.group else "/api"
        within = f"/namespaces/{namespace}" if namespace is not None else ""
        return f"{root}/{self.version}{within}/{self.plural}" + (f"/{name}" if name else "")

    def path_of(self, shown: Object) -> str:
        return self.path(shown["metadata"].get("namespace"), name_of(shown))


ANCHOR = Kind("ConfigMap", "configmaps")
"""One for each environment: what everything else of it belongs to."""

POD = Kind("Pod", "pods")
SERVICE = Kind("Service", "services")
SECRET = Kind("Secret", "secrets")
NETWORK_POLICY = Kind("NetworkPolicy", "networkpolicies", "networking.k8s.io")
CLAIM = Kind("PersistentVolumeClaim", "persistentvolumeclaims")
INGRESS = Kind("Ingress", "ingresses", "networking.k8s.io")
HTTP_ROUTE = Kind("HTTPRoute", "httproutes", "gateway.networking.k8s.io")
EVENT = Kind("Event", "events")
SERVICE_ACCOUNT = Kind("ServiceAccount", "serviceaccounts")
ROLE = Kind("Role", "roles", "rbac.authorization.k8s.io")
ROLE_BINDING = Kind("RoleBinding", "rolebindings", "rbac.authorization.k8s.io")

NAMESPACE = Kind("Namespace", "namespaces")
RESOURCE_QUOTA = Kind("ResourceQuota", "resourcequotas")
LIMIT_RANGE = Kind("LimitRange", "limitranges")


def uid_of(shown: Object) -> str:
    return str(shown["metadata"]["uid"])


def name_of(shown: Object) -> str:
    return str(shown["metadata"]["name"])


def namespace_of(shown: Object) -> str:
    return str(shown["metadata"]["namespace"])


def is_dying(shown: Object) -> bool:
    return shown["metadata"].get("deletionTimestamp") is not None


def belongs_to_anchor(shown: Object, anchor: Object) -> bool:
    owners = shown["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid_of(anchor) for owner in owners)
