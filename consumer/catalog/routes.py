"""How people come to an environment's pages through a cluster's own door, by a host name of its own. No I/O here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

NAME = "{name}"
"""Stands for the environment's name in a host: so no two environments have the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """By the Ingress controller of a class; the cluster's default class if None.

    `host` has `NAME` in it. With `https`, `secret` is the name of the certificate's Secret in the environment's
    namespace, None for the certificate that the controller has for whoever names none.
    """

    host: str
    https: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    class_name: str | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """By a Gateway, which has the certificate: `https` says that it has. `section` is the name of one listener of it.

    `namespace` is where it is, None for the environment's own.
    """

    host: str
    https: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    name: str
    namespace: str | None = None
    section: str | None = None


Route = Ingress | Gateway


def host_of(route: Route, name: str) -> str:
    """The host of the environment called `name`."""
    return route.host.replace(NAME, name)


def url_of(route: Route, name: str) -> str:
    return f"{'https' if route.https else 'http'}://{host_of(route, name)}"


def identity_of(route: Route) -> Mapping[str, Any]:
    """All of it as JSON can hold it, the same for the same."""
    return {type(route).__name__: asdict(route)}
