"""What Moorage must be allowed to do, in its namespace or those of users: all of it, and no more. No I/O here."""

from dataclasses import dataclass, replace

from consumer.catalog.needs import Needs
from consumer.catalog.routes import Gateway, Ingress


@dataclass(frozen=True, slots=True)
class Rule:
    """As RBAC has them. With `name` it is about the one object that is called so."""

    resource: str
    verbs: tuple[str, ...]
    group: str = ""
    name: str = ""

    def __str__(self) -> str:
        """As it stands in a Role."""
        name = f", resourceNames: [{self.name}]" if self.name else ""
        return f'{{apiGroups: ["{self.group}"], resources: [{self.resource}]{name}, verbs: [{", ".join(self.verbs)}]}}'


NEEDED = (
    Rule("configmaps", ("get", "list", "watch", "create", "patch", "delete")),
    Rule("configmaps/finalizers", ("update",)),
    Rule("pods", ("get", "list", "watch", "create", "delete", "deletecollection")),
    Rule("pods/log", ("get",)),
    Rule("services", ("get", "list", "create", "deletecollection")),
    Rule("secrets", ("get", "create", "delete", "deletecollection")),
    Rule("persistentvolumeclaims", ("get", "list", "create", "delete")),
    Rule("networkpolicies", ("get", "create", "deletecollection"), "networking.k8s.io"),
)
"""Finalizers: some clusters let only who may change an owner's say that it must wait for what belongs to it."""

_PARTS = ("get", "list", "create", "delete")

INGRESSES = Rule("ingresses", _PARTS, "networking.k8s.io")
HTTP_ROUTES = Rule("httproutes", _PARTS, "gateway.networking.k8s.io")

INGRESS_CLASSES = Rule("ingressclasses", ("list",), "networking.k8s.io")
"""Of the cluster, so of a ClusterRole: `moorage doctor` looks whether there are those that templates name."""

_GIVEN = ("get", "create", "delete")

KUBECONFIGS = (
    Rule("serviceaccounts", _GIVEN),
    Rule("serviceaccounts/token", ("create",)),
    Rule("roles", _GIVEN, "rbac.authorization.k8s.io"),
    Rule("rolebindings", _GIVEN, "rbac.authorization.k8s.io"),
    Rule("secrets", ("patch",)),
    Rule("pods/exec", ("get", "create")),
    Rule("pods/portforward", ("get", "create")),
)
"""Needed as well where users are given kubeconfigs. The last two are handed on: nobody gives rights they have not."""

WELCOME = (
    Rule("namespaces", ("get",)),
    Rule("events", ("list",)),
    Rule("pods", ("get",), "metrics.k8s.io"),
)
"""What `moorage doctor`, failures and `env top` tell more with."""


def _for_routes(needs: Needs) -> tuple[Rule, ...]:
    used = {type(route) for _, route in needs.routes}
    return (*([INGRESSES] if Ingress in used else []), *([HTTP_ROUTES] if Gateway in used else []))


def _for_kubeconfigs(needs: Needs) -> tuple[Rule, ...]:
    return KUBECONFIGS if needs.kubeconfigs else ()


def needed_for(needs: Needs) -> tuple[Rule, ...]:
    """What templates want as well as what all of them need."""
    return (*NEEDED, *_for_routes(needs), *_for_kubeconfigs(needs))


_RBAC = "rbac.authorization.k8s.io"
_NETWORK = "networking.k8s.io"

EVERYWHERE = (
    Rule("namespaces", ("get", "create", "patch")),
    Rule("configmaps", ("list", "watch")),
    Rule("pods", ("list", "watch")),
    Rule("services", ("list",)),
    Rule("persistentvolumeclaims", ("list",)),
)
"""With a namespace for each user, in all of them: nobody knows beforehand which there will be."""


def to_be_let_in(role: str) -> tuple[Rule, ...]:
    """Also everywhere, to bind the ClusterRole of this name: it says what is needed in users' namespaces."""
    return (
        Rule("rolebindings", ("get", "create"), _RBAC),
        Rule("clusterroles", ("get", "bind"), _RBAC, role),
    )


IN_USERS = (
    Rule("configmaps", ("get", "create", "patch", "delete")),
    Rule("configmaps/finalizers", ("update",)),
    Rule("pods", ("get", "create", "delete", "deletecollection")),
    Rule("pods/log", ("get",)),
    Rule("services", ("get", "create", "deletecollection")),
    Rule("secrets", ("get", "create", "delete", "deletecollection")),
    Rule("persistentvolumeclaims", ("get", "create", "delete")),
    Rule("networkpolicies", ("get", "create", "patch", "deletecollection"), _NETWORK),
    Rule("resourcequotas", ("create", "patch")),
    Rule("limitranges", ("create", "patch")),
    Rule("events", ("list",)),
    Rule("pods", ("get",), "metrics.k8s.io"),
)
"""In the namespace of each user."""


def everywhere_for(needs: Needs) -> tuple[Rule, ...]:
    """The same in all namespaces, where each user has one."""
    return (*EVERYWHERE, *(replace(rule, verbs=("list",)) for rule in _for_routes(needs)))


def in_users_for(needs: Needs) -> tuple[Rule, ...]:
    """And in those of users."""
    routes = (replace(rule, verbs=_GIVEN) for rule in _for_routes(needs))
    return (*IN_USERS, *routes, *_for_kubeconfigs(needs))
