"""`kubernetes:` of a template: what it decides for the runtime of that name alone. No I/O here."""

from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from consumer.catalog import fields
from consumer.catalog.environment import Kubernetes, ServiceType
from consumer.catalog.fields import Section, problem
from consumer.catalog.route_sections import GatewaySection, IngressSection


class KubernetesSection(Section):
    """How ports and pages are reached, which runtime class the pods have, and whether users are given a kubeconfig.

    What is left out, settings decide; without a word there is no kubeconfig.
    """

    service: ServiceType | None = None
    runtime_class: Annotated[str, AfterValidator(fields.object_name)] | None = None
    ingress: IngressSection | None = None
    gateway: GatewaySection | None = None
    kubeconfig: bool = False

    @property
    def leads(self) -> str | None:
        """Which of its keys leads people to pages, if one does."""
        return next((name for name in ("ingress", "gateway") if getattr(self, name) is not None), None)

    def kubernetes(self) -> Kubernetes:
        section = self.ingress or self.gateway
        route = section.route() if section is not None else None
        return Kubernetes(self.service, self.runtime_class, route, self.kubeconfig)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.ingress is not None and self.gateway is not None:
            raise problem("cannot be had beside ingress: leave one of them out", "gateway")
        return self
