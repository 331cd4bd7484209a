"""What the templates of a runtime need of it, put together for whoever examines it. No I/O here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from consumer.catalog.images import tagged
from consumer.catalog.parameters import Parameter
from consumer.catalog.ports import PortRange
from consumer.catalog.routes import Route
from consumer.catalog.template import MACHINE_RUNTIMES, Template


@dataclass(frozen=True, slots=True)
class Needs:
    """`images` by the template that names them; `host_ports` and `routes` likewise.

    `limits` are those that any template sets. `never_pulled` are the templates whose image must be at hand,
    `kubeconfigs` those that give users one.
    """

    images: tuple[tuple[str, str], ...] = ()
    host_ports: tuple[tuple[str, PortRange], ...] = ()
    routes: tuple[tuple[str, Route], ...] = ()
    limits: frozenset[Parameter] = frozenset()
    never_pulled: frozenset[str] = frozenset()
    kubeconfigs: frozenset[str] = frozenset()

    @classmethod
    def of(cls, templates: Iterable[Template]) -> Self:
        templates = list(templates)
        return cls(
            images=tuple(
                (each.name, each.image if each.runtime in MACHINE_RUNTIMES else tagged(each.image))
                for each in templates
                if each.image
            ),
            host_ports=tuple((each.name, each.host_ports) for each in templates if each.host_ports is not None),
            routes=tuple(
                (each.name, route)
                for each in templates
                if each.kubernetes is not None and (route := each.kubernetes.route) is not None
            ),
            limits=frozenset(
                parameter
                for each in templates
                for parameter, bounds in each.bounds.items()
                if bounds.usual is not None or bounds.maximum is not None
            ),
            never_pulled=frozenset(each.name for each in templates if each.pull == "never"),
            kubeconfigs=frozenset(
                each.name for each in templates if each.kubernetes is not None and each.kubernetes.kubeconfig
            ),
        )
