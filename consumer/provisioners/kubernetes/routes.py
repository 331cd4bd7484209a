"""Ingresses and HTTPRoutes of environments, as the API takes them, and what they tell. No I/O here."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.routes import Gateway, Ingress, Route, host_of, url_of
from consumer.provisioners.kubernetes.kinds import HTTP_ROUTE, INGRESS, Kind, Object
from consumer.provisioners.kubernetes.names import facts_of
from consumer.provisioners.text import shortened, without_paths

_LED_BY = "moorage/led-by"
"""On an anchor: the kind of its route. Templates change, and not every cluster has, or lets us see, every kind."""

_URL = "moorage/url"
_KINDS = {kind.name: kind for kind in (INGRESS, HTTP_ROUTE)}
_LONGEST_SAID = 160


def note_of(spec: EnvironmentSpec) -> Mapping[str, str]:
    """What an anchor tells of its environment's route."""
    route = spec.kubernetes.route
    return {} if route is None else {_LED_BY: _kind_of(route).name, _URL: url_of(route, spec.name)}


def kinds_of(anchors: Iterable[Object]) -> frozenset[Kind]:
    """The kinds of routes that these have."""
    return frozenset(kind for each in anchors if (kind := _KINDS.get(facts_of(each).get(_LED_BY, ""))) is not None)


def route_of(spec: EnvironmentSpec, about: dict[str, Any]) -> tuple[Kind, dict[str, Any]] | None:
    """What leads to the pages of an environment, if its template wants it; `about` is its metadata."""
    if (route := spec.kubernetes.route) is None:
        return None
    told = {**route.annotations, **about["annotations"], _URL: url_of(route, spec.name)}
    made = _ingress(spec, route) if isinstance(route, Ingress) else _http_route(spec, route)
    return _kind_of(route), {"metadata": about | {"annotations": told}, "spec": made}


def told_url(shown: Object) -> str | None:
    """The address that a route, or the route of an anchor, was made for."""
    return facts_of(shown).get(_URL)


def is_taken(route: Object) -> bool:
    """Whether a Gateway leads where an HTTPRoute says."""
    return any(
        said.get("Accepted", {}).get("status") == "True" and said.get("ResolvedRefs", {}).get("status") != "False"
        for said in _conditions_of(route)
    )


def refusal_of(route: Object) -> str | None:
    """Why a Gateway does not take an HTTPRoute; None while none has said so."""
    for conditions in _conditions_of(route):
        for said in conditions.values():
            if said["type"] in ("Accepted", "ResolvedRefs") and said["status"] == "False":
                return shortened(without_paths(f"{said['reason']}: {said.get('message') or ''}"), _LONGEST_SAID)
    return None


def _conditions_of(route: Object) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    """What controllers say of it, by type: each may say something for each way in."""
    for parent in route.get("status", {}).get("parents") or ():
        yield {each["type"]: each for each in parent.get("conditions") or ()}


def _kind_of(route: Route) -> Kind:
    return INGRESS if isinstance(route, Ingress) else HTTP_ROUTE


def _ingress(spec: EnvironmentSpec, route: Ingress) -> dict[str, Any]:
    host = host_of(route, spec.name)
    backend = {"service": {"name": spec.name, "port": {"number": _service_port(spec)}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    made: dict[str, Any] = {"rules": [{"host": host, "http": {"paths": paths}}]}
    if route.class_name is not None:
        made["ingressClassName"] = route.class_name
    if route.https:
        made["tls"] = [{"hosts": [host]} | ({"secretName": route.secret} if route.secret is not None else {})]
    return made


def _http_route(spec: EnvironmentSpec, route: Gateway) -> dict[str, Any]:
    where = {"name": route.name, "namespace": route.namespace, "sectionName": route.section}
    return {
        "parentRefs": [{key: value for key, value in where.items() if value is not None}],
        "hostnames": [host_of(route, spec.name)],
        "rules": [{"backendRefs": [{"name": spec.name, "port": _service_port(spec)}]}],
    }


def _service_port(spec: EnvironmentSpec) -> int:
    """That of the environment's HTTP port, which templates with a route have."""
    port = next(each for each in spec.ports if (each.container, each.protocol) == (spec.access.http_port, "tcp"))
    return port.service or port.container
