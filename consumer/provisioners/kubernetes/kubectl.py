"""Lines to paste, for whoever may use the cluster with kubectl. No I/O here.

They name the pod and not its service: who may use one environment may not look for the pods that a service leads to.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from consumer.provisioners.kubernetes.kinds import Object, name_of, namespace_of
from consumer.provisioners.kubernetes.kubeconfig import place_of
from consumer.provisioners.kubernetes.pods import CONTAINER
from schemas.outbound import Kubectl

_UNPRIVILEGED = 1024
_INSTEAD = 8000


def kubectl_of(anchor: Object, ports: Iterable[Mapping[str, Any]]) -> Kubectl:
    """`ports` are those of the environment's service. Nothing but TCP can be forwarded."""
    call, pod = f"kubectl -n {namespace_of(anchor)}", f"pod/{name_of(anchor)}"
    return Kubectl(
        logs=f"{call} logs -f {pod} -c {CONTAINER}",
        exec=f"{call} exec -it {pod} -c {CONTAINER} -- sh",
        port_forward=tuple(f"{call} port-forward {pod} {pair}" for pair in _forwarded(ports)),
        kubeconfig=place_of(anchor),
    )


def _forwarded(ports: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """`LOCAL:PORT` of each: the service's own port where anybody may listen there, or else one like it."""
    taken: set[int] = set()
    for port in ports:
        if port["protocol"] == "TCP":
            outside, inside = int(port["port"]), int(port["targetPort"])
            others = range(_INSTEAD + outside % 1000, 65_536)
            local = next(each for each in (outside, inside, *others) if each >= _UNPRIVILEGED and each not in taken)
            taken.add(local)
            yield f"{local}:{inside}"
