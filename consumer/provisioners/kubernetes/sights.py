"""An environment as the cluster shows it, from its anchor, its pod, its service and its route. No I/O here."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from consumer.catalog.identity import IMAGE
from consumer.catalog.images import split_reference
from consumer.handling.ports import Ending, Environment, Status
from consumer.provisioners.access import build_access, hints_of
from consumer.provisioners.kubernetes.kinds import Object, belongs_to_anchor, is_dying, name_of, namespace_of, uid_of
from consumer.provisioners.kubernetes.kubeconfig import renew_at
from consumer.provisioners.kubernetes.kubectl import kubectl_of
from consumer.provisioners.kubernetes.names import facts_of
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.pods import CONTAINER
from consumer.provisioners.kubernetes.routes import told_url
from consumer.provisioners.labels import environment_of
from schemas.outbound import Access, AccessPort

_STATUS = {"Pending": Status.STARTING, "Running": Status.RUNNING, "Succeeded": Status.STOPPED, "Failed": Status.STOPPED}


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is of one environment. Its id is its anchor's, which stays while pods come and go."""

    anchor: Object
    pod: Object | None = None
    service: Object | None = None
    route: Object | None = None

    @property
    def facts(self) -> Mapping[str, str]:
        return facts_of(self.anchor)

    @property
    def status(self) -> Status:
        if is_dying(self.anchor):
            return Status.DYING
        if self.pod is None:  # never made, or somebody deleted it
            return Status.STOPPED
        return status_of(self.pod)

    def environment(self, options: KubernetesOptions) -> Environment:
        shown = environment_of(
            self.facts,
            runtime=options.name,
            name=name_of(self.anchor),
            native_id=uid_of(self.anchor),
            status=self.status,
            access=self._access(options),
            image=self.facts.get(IMAGE),
            image_digest=digest_of(self.pod) if self.pod is not None else None,
        )
        ending = ending_of(self.pod) if self.pod is not None else None
        return replace(shown, ending=ending, renew_at=renew_at(self.anchor))

    def _access(self, options: KubernetesOptions) -> Access:
        host, ports = f"{name_of(self.anchor)}.{namespace_of(self.anchor)}.svc", []
        offered = self.service["spec"].get("ports") or () if self.service is not None else ()
        if self.service is not None:
            outside = "port"
            match self.service["spec"]["type"]:
                case "NodePort":
                    host, outside = options.public_host or self._node() or host, "nodePort"
                case "LoadBalancer":
                    host = address_of(self.service) or host
            ports = [_access_port(port, outside) for port in offered]
        access = build_access(host, ports, hints_of(self.facts))
        url = told_url(self.route or self.anchor)  # a route that is not shown to us leads there all the same
        return access.model_copy(update={"url": url or access.url, "kubectl": kubectl_of(self.anchor, offered)})

    def _node(self) -> str | None:
        return None if self.pod is None else self.pod.get("status", {}).get("hostIP")


def sights_of(
    anchors: Iterable[Object], pods: Iterable[Object], services: Iterable[Object], routes: Iterable[Object]
) -> Iterator[Sight]:
    """What belongs together. What belongs to an earlier anchor of the same name is on its way out."""
    by_place = [{_place(each): each for each in kind} for kind in (pods, services, routes)]
    for anchor in anchors:
        if facts_of(anchor):
            yield Sight(anchor, *(_owned(kind.get(_place(anchor)), anchor) for kind in by_place))


def status_of(pod: Object) -> Status:
    if is_dying(pod):
        return Status.DYING
    if "terminated" in container_state(pod):  # for good: it is not restarted, whatever goes on beside it
        return Status.STOPPED
    return _STATUS.get(pod.get("status", {}).get("phase", ""), Status.STARTING)


def container_state(pod: Object) -> Mapping[str, Any]:
    """The state of the environment's container: `waiting`, `running` or `terminated`; empty before there is one."""
    state: Mapping[str, Any] = _container(pod).get("state") or {}
    return state


def ending_of(pod: Object) -> Ending | None:
    """How its program ended, once it has and as far as the cluster tells."""
    if status_of(pod) is not Status.STOPPED or not (ended := container_state(pod).get("terminated")):
        return None
    return Ending(ended.get("exitCode"), ended.get("reason") == "OOMKilled")


def digest_of(pod: Object) -> str | None:
    """The digest of the content that runs; None for an image that no registry ever held."""
    return split_reference(_container(pod).get("imageID") or "")[2]


def address_of(service: Object) -> str | None:
    """The address of its load balancer, once it has one."""
    for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or ():
        address: str | None = entry.get("ip") or entry.get("hostname")
        return address
    return None


def _container(pod: Object) -> Mapping[str, Any]:
    """What is told of the container that is ours: admission webhooks put theirs (`istio-proxy`) beside it."""
    told: list[Mapping[str, Any]] = pod.get("status", {}).get("containerStatuses") or []
    return next((each for each in told if each["name"] == CONTAINER), {})


def _place(shown: Object) -> tuple[str, str]:
    return namespace_of(shown), name_of(shown)


def _owned(shown: Object | None, anchor: Object) -> Object | None:
    return shown if shown is not None and belongs_to_anchor(shown, anchor) else None


def _access_port(port: Mapping[str, Any], outside: str) -> AccessPort:
    return AccessPort(port=int(port["targetPort"]), host_port=int(port[outside]), protocol=port["protocol"].lower())
