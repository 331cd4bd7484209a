"""What an operator should know of a cluster before users come: each finding with its remedy."""

from collections.abc import Iterator
from contextlib import suppress

from consumer.catalog.needs import Needs
from consumer.handling.errors import ProvisionerError
from consumer.handling.ports import Finding, Level
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Answer, NoNamespace
from consumer.provisioners.kubernetes.kinds import NAMESPACE, Object
from consumer.provisioners.kubernetes.names import selector
from consumer.provisioners.kubernetes.options import KubernetesOptions, UserNamespaces
from consumer.provisioners.kubernetes.permissions import WELCOME
from consumer.provisioners.kubernetes.rights import lacking, not_allowed
from consumer.provisioners.kubernetes.route_diagnosis import diagnose_routes
from consumer.provisioners.kubernetes.user_namespaces import USER

_ENFORCE = "pod-security.kubernetes.io/enforce"
_NODE_PORTS = range(30_000, 32_768)


async def diagnose(client: Client, options: KubernetesOptions, needs: Needs) -> list[Finding]:
    """Everything that can be told; when the API does not answer, why, and nothing else."""
    try:
        version = await client.version()
        missing = await not_allowed(client, options, needs)
    except Answer:
        return [_unreachable("What answers is not the Kubernetes API.", options)]
    except ProvisionerError as error:
        return [_unreachable(error.message, options)]
    return [
        Finding(Level.OK, "API", f"It answers at {client.server}: Kubernetes {version}."),
        await _namespace(client, options) if options.users is None else _users_namespaces(options, options.users),
        *missing,
        *([] if missing else [Finding(Level.OK, "permissions", "Moorage may do all that it has to.")]),
        *await _usage(client, options),
        *await _left_behind(client, options),
        *_ports(needs),
        *await diagnose_routes(client, needs),
        *_kubeconfigs(client, options, needs),
    ]


def _unreachable(why: str, options: KubernetesOptions) -> Finding:
    ours = "its kubeconfig and context in the template file, or else " if "@" in options.name else ""
    remedy = f"Check {ours}KUBECONFIG, MOORAGE_KUBERNETES_CONTEXT and the way to the API server (kubectl cluster-info)."
    return Finding(Level.ERROR, "API", why, remedy)


async def _namespace(client: Client, options: KubernetesOptions) -> Finding:
    subject = f"namespace {options.namespace}"
    try:
        shown = await client.ask("GET", f"/api/v1/namespaces/{options.namespace}")
    except NoNamespace:
        return Finding(Level.ERROR, subject, "It does not exist.", f"kubectl create namespace {options.namespace}")
    except (ProvisionerError, Answer):
        remedy = f"Add to its Role: {WELCOME[0]}"
        return Finding(Level.WARNING, subject, "Moorage may not look at it, so its Pod Security is not known.", remedy)
    level = (shown["metadata"].get("labels") or {}).get(_ENFORCE)
    if level == "restricted":
        return Finding(Level.OK, subject, "Its Pod Security is restricted.")
    remedy = f"kubectl label namespace {options.namespace} {_ENFORCE}=restricted; or baseline, if templates need root."
    said = f"enforces Pod Security {level}" if level else "enforces no Pod Security"
    what = f"It {said}: only Moorage itself keeps pods from more."
    return Finding(Level.WARNING if level != "baseline" else Level.OK, subject, what, remedy)


def _users_namespaces(options: KubernetesOptions, users: UserNamespaces) -> Finding:
    what = f"Each user has one, {options.namespace}-USER-…, with the Pod Security {users.pod_security}."
    if users.pod_security != "privileged":
        return Finding(Level.OK, "namespaces", what)
    remedy = "Set MOORAGE_KUBERNETES_POD_SECURITY to baseline or restricted."
    return Finding(Level.WARNING, "namespaces", f"{what} Only Moorage itself keeps pods from more.", remedy)


async def _usage(client: Client, options: KubernetesOptions) -> list[Finding]:
    try:
        await client.ask("GET", "/apis/metrics.k8s.io/v1beta1")
        if options.users is not None and options.users.role is not None:
            return []  # what its rules are has been looked at
        missing = await lacking(client, WELCOME[-1], options.scope)
    except (ProvisionerError, Answer):
        what = "No metrics server answers: nobody can tell what environments use."
        return [Finding(Level.WARNING, "metrics", what, "Install metrics-server, if you want to know.")]
    if missing.verbs:
        what = "Moorage may not read what environments use."
        return [Finding(Level.WARNING, "metrics", what, f"Add to its Role: {WELCOME[-1]}")]
    return []


async def _left_behind(client: Client, options: KubernetesOptions) -> list[Finding]:
    """Users' namespaces that nobody looks after since there is one for all, as far as we may know."""
    found: list[Object] = []
    with suppress(ProvisionerError, Answer):
        if options.users is None and await client.may("list", "", "namespaces", None):
            found = await client.list(NAMESPACE, f"{selector(options.instance)},{USER}", None)
    if not found:
        return []
    what = f"There are {len(found)} namespaces of users; what runs there is found by nobody, and ended by nobody."
    remedy = "Set MOORAGE_KUBERNETES_NAMESPACE_PER_USER=true until all has ended; delete the namespaces then."
    return [Finding(Level.WARNING, "namespaces", what, remedy)]


def _ports(needs: Needs) -> Iterator[Finding]:
    for template, ports in needs.host_ports:
        if ports.first not in _NODE_PORTS or ports.last not in _NODE_PORTS:
            what = f"Its host ports {ports} are not all among a cluster's usual node ports, 30000-32767."
            yield Finding(Level.WARNING, f"template {template}", what, "Change `host_ports`, or the cluster's range.")


def _kubeconfigs(client: Client, options: KubernetesOptions, needs: Needs) -> Iterator[Finding]:
    if needs.kubeconfigs and options.public_server is None and client.in_cluster:
        names = ", ".join(sorted(needs.kubeconfigs))
        what = f"Its users' kubeconfigs lead to {client.server}, which is reached from within the cluster only."
        remedy = "Set MOORAGE_KUBERNETES_PUBLIC_SERVER to the API server's URL as users reach it."
        yield Finding(Level.WARNING, f"template {names}", what, remedy)
