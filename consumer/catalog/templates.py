"""The catalog: which template serves a resource, and what environment a reservation comes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from consumer.catalog.engine_section import EngineSection
from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.errors import CatalogError, Refused
from consumer.catalog.image_policy import ImageChoice, ImagePolicy, MachineImagePolicy
from consumer.catalog.messages import USUAL, Message
from consumer.catalog.needs import Needs
from consumer.catalog.quotas import QuotaRules
from consumer.catalog.resolution import resolve
from consumer.catalog.strictyaml import Document
from consumer.catalog.template import CONTAINER_RUNTIMES, Template
from consumer.catalog.template_file import TemplateFile, check_template_file, read_template_file
from consumer.catalog.wording import quoted
from schemas.events import Resource
from schemas.outbound import Outcome
from schemas.state import ReservationState

__all__ = ["Catalog", "Defaults", "Template"]


@dataclass(frozen=True, slots=True)
class Defaults:
    """The one template there is when no file says more: it serves every resource.

    Quantities and ports are texts as in a template file. Nobody may ask for more than `cpu`, `memory` and `storage`
    unless a maximum is given, which may be `unlimited`. `user_environments` and `total_environments` are quotas; with
    `queue` a start waits for room.
    """

    runtime: str = "docker"
    image: str | None = "nginx:1.27-alpine"
    cpu: str = "1"
    memory: str = "512Mi"
    storage: str | None = None
    maximum_cpu: str | None = None
    maximum_memory: str | None = None
    maximum_storage: str | None = None
    allowed_images: tuple[str, ...] = ()
    ports: str = "80"
    command: tuple[str, ...] = ()
    http_port: int | None = None
    ssh_port: int | None = None
    ssh_user: str | None = None
    user_environments: int | None = None
    total_environments: int | None = None
    queue: bool = False
    capabilities: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """The template file that says the same."""
        contained = self.runtime in CONTAINER_RUNTIMES
        template = {
            "name": "default",
            "runtime": self.runtime,
            "image": self.image or None,
            "limits": _said(cpu=self.cpu, memory=self.memory, storage=self.storage),
            "maximum": _said(cpu=self.maximum_cpu, memory=self.maximum_memory, storage=self.maximum_storage),
            "ports": self.ports,
            "command": self.command,
            "images": {"allow": self.allowed_images},
            "access": _said(http=_text(self.http_port), ssh=_text(self.ssh_port), ssh_user=self.ssh_user),
            "security": {"capabilities": self.capabilities} if contained else None,
        }
        return {"version": "1", "quotas": self._quotas(), "templates": [_said(**template)]}

    def _quotas(self) -> dict[str, Any]:
        return {
            "user": _said(environments=_text(self.user_environments)),
            "total": _said(environments=_text(self.total_environments)),
            "queue": self.queue,
        }


class Catalog:
    """Templates in order, first match wins. Immutable: a changed file makes a new catalog."""

    def __init__(self, file: TemplateFile, *, instance: str) -> None:
        self._instance = instance
        self._aliases = file.aliases
        self._templates = file.templates
        common = file.images.container_policy()
        policies = {template.name: template.image_policy(common) for template in file.templates}
        self.engines: Mapping[str, EngineSection] = MappingProxyType({each.full_name: each for each in file.engines})
        """By what they are called as runtimes."""

        capacities = {name: engine.capacity for name, engine in self.engines.items()}
        own_quotas = {template.name: template.quotas for template in file.templates}
        self.quotas = QuotaRules(file.quotas, own_quotas, capacities)
        self._policies: Mapping[str, ImagePolicy | MachineImagePolicy] = MappingProxyType(policies)
        self._messages = file.messages.over(USUAL)
        own = {template.name: template.messages.over(self._messages) for template in file.templates}
        self._own_messages: Mapping[str, Mapping[Outcome, Message]] = MappingProxyType(own)

    @classmethod
    def from_yaml(cls, text: str, *, instance: str, source: str = "templates.yaml") -> Self:
        """The catalog that `text` describes. Raises `CatalogError` with every problem; `source` names the text."""
        return cls(read_template_file(text, source), instance=instance)

    @classmethod
    def from_defaults(cls, defaults: Defaults, *, instance: str) -> Self:
        """A catalog of one template for every resource. Raises `CatalogError`."""
        try:
            file = check_template_file(Document(defaults.document(), {}), "default environment")
        except CatalogError as error:
            # Whoever set a variable never saw a list of templates.
            plain = (p.replace("templates[0].", "").replace(' (template "default")', "") for p in error.problems)
            raise CatalogError(tuple(plain)) from None
        return cls(file, instance=instance)

    @property
    def templates(self) -> tuple[Template, ...]:
        return self._templates

    @property
    def runtimes(self) -> frozenset[str]:
        """The runtimes that templates use, and all engines: one that takes nothing new may still have environments."""
        return frozenset(self.engines).union(*(template.runtimes for template in self._templates))

    def needs(self, runtime: str) -> Needs:
        """What the templates of a runtime need of it."""
        return Needs.of(template for template in self._templates if runtime in template.runtimes)

    def image_choice(self, template: Template, asked: str) -> ImageChoice:
        """What a user of the template gets who asks for an image. Raises `Refused`."""
        return self._policies[template.name].decide(asked, template.image or "")

    def template_for(self, resource: Resource) -> Template | None:
        """The first template that serves `resource`."""
        return next((template for template in self._templates if template.match.serves(resource)), None)

    def messages_for(self, template: str | None, resource: Resource) -> Mapping[Outcome, Message]:
        """What people are told of an environment of this template, or of the one that would serve `resource`."""
        if template not in self._own_messages:
            serving = self.template_for(resource)
            template = serving.name if serving is not None else None
        return self._messages if template is None else self._own_messages[template]

    def resolve(self, state: ReservationState) -> EnvironmentSpec:
        """The environment that `state` asks for. Raises `Refused`; the same state always comes to the same."""
        template = self.template_for(state.resource)
        if template is None:
            kind = f"of type {quoted(state.resource.type)}" if state.resource.type else "without a type"
            raise Refused(
                "no_template",
                f"Nothing can be provisioned for resources {kind}: ask whoever runs this service for a template.",
            )
        return resolve(template, self._policies[template.name], self._aliases, state, instance=self._instance)


def _said(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
