"""`kubernetes:` of a template: what it decides for the runtime of that name alone. No I/O here."""

import re
from typing import Annotated

from pydantic import AfterValidator

from consumer.catalog.environment import Kubernetes, ServiceType
from consumer.catalog.fields import Section, problem
from consumer.catalog.wording import quoted

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")


def object_name(value: str) -> str:
    """`value`, if an object of a cluster can have it as its name."""
    if not _NAME.fullmatch(value):
        raise problem(f"{quoted(value)} is not the name of an object of a cluster: write one such as gvisor")
    return value


class KubernetesSection(Section):
    """How ports are reached, and which runtime class the pods have; what is left out, settings decide."""

    service: ServiceType | None = None
    runtime_class: Annotated[str, AfterValidator(object_name)] | None = None

    def kubernetes(self) -> Kubernetes:
        return Kubernetes(self.service, self.runtime_class)
