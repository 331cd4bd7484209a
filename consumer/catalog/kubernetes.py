"""`kubernetes:` of a template: what it decides for the runtime of that name alone. No I/O here."""

from typing import Annotated, Self

from pydantic import AfterValidator, PlainValidator, model_validator

from consumer.catalog import fields
from consumer.catalog.environment import Kubernetes, Limits, ServiceType
from consumer.catalog.fields import Section, problem
from consumer.catalog.route_sections import GatewaySection, IngressSection
from consumer.catalog.routes import Route


class RequestsSection(Section):
    """What nodes set aside for a pod: CPU in millicores, memory and storage in bytes; None is as much as the limit."""

    cpu: Annotated[int | None, PlainValidator(fields.stated(fields.cpu))] = None
    memory: Annotated[int | None, PlainValidator(fields.stated(fields.size))] = None
    storage: Annotated[int | None, PlainValidator(fields.stated(fields.size))] = None

    def within(self, limits: Limits) -> Limits:
        """The requests of an environment with these limits: its user may have chosen lower ones than the template."""
        return Limits(
            cpu_millis=_at_most(self.cpu, limits.cpu_millis),
            memory_bytes=_at_most(self.memory, limits.memory_bytes),
            storage_bytes=_at_most(self.storage, limits.storage_bytes),
        )


class KubernetesSection(Section):
    """How pods are reached, what they run in, what nodes set aside for them, and whether users are given a kubeconfig.

    What is left out, settings decide; without a word there is no kubeconfig, and requests are what limits are.
    """

    service: ServiceType | None = None
    runtime_class: Annotated[str, AfterValidator(fields.object_name)] | None = None
    ingress: IngressSection | None = None
    gateway: GatewaySection | None = None
    kubeconfig: bool = False
    requests: RequestsSection = RequestsSection()

    @property
    def leads(self) -> str | None:
        """Which of its keys leads people to pages, if one does."""
        return next((name for name in ("ingress", "gateway") if getattr(self, name) is not None), None)

    @property
    def route(self) -> Route | None:
        section = self.ingress or self.gateway
        return section.route() if section is not None else None

    def kubernetes(self, limits: Limits) -> Kubernetes:
        """What it comes to for an environment with these limits."""
        requests = self.requests.within(limits)
        return Kubernetes(self.service, self.runtime_class, self.route, self.kubeconfig, requests)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.ingress is not None and self.gateway is not None:
            raise problem("cannot be had beside ingress: leave one of them out", "gateway")
        return self


def _at_most(request: int | None, limit: int | None) -> int | None:
    return request if request is None or limit is None else min(request, limit)
