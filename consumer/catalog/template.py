"""A template: what operators say about the environments of some resources. See docs/how-to/templates.md."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from consumer.catalog import fields
from consumer.catalog.access import AccessSection
from consumer.catalog.bounds import CPU, MEMORY, STORAGE, Bounds
from consumer.catalog.devices import Gpus, device_names, gpu_count
from consumer.catalog.engine_section import engine_name
from consumer.catalog.environment import RESERVED_VARIABLES, Port, PullPolicy
from consumer.catalog.fields import UNLIMITED, Amount, Section, problem
from consumer.catalog.identity import MANAGED_BY
from consumer.catalog.image_policy import ImagePattern, ImagePolicy, MachineImagePolicy, OnViolation, parse_pattern
from consumer.catalog.images import parse_image
from consumer.catalog.kubernetes import KubernetesSection
from consumer.catalog.messages import MessagesSection
from consumer.catalog.parameters import Parameter
from consumer.catalog.ports import PortRange
from consumer.catalog.quota_section import Quotas
from consumer.catalog.readiness import ReadySection
from consumer.catalog.security_section import SecuritySection
from consumer.catalog.variables import check_variables
from consumer.catalog.volumes import VolumeSection
from consumer.catalog.wording import did_you_mean, quoted
from schemas.events import Resource

CONTAINER_ENGINES = frozenset({"docker", "podman"})
"""Where a template's devices can be had."""

MACHINE_RUNTIMES = frozenset({"libvirt", "openstack"})
"""Where images are plain names. Elsewhere they are references, on `process` too: a laptop refuses what a lab would."""

CONTAINER_RUNTIMES = frozenset({"docker", "podman", "kubernetes"})
"""Where a template's pool, entrypoint, volume and GPUs can be had, and a user's key be put beside an image."""

Runtime = Literal["process", "docker", "podman", "kubernetes", "libvirt", "openstack"]

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class Match(Section):
    """Which resources a template serves: all fields that are given must match, each by any of its patterns.

    Patterns are shell-style globs, compared without regard to case.
    """

    type: Annotated[tuple[str, ...], PlainValidator(fields.one_or_more)] = ()
    name: Annotated[tuple[str, ...], PlainValidator(fields.one_or_more)] = ()
    id: Annotated[tuple[str, ...], PlainValidator(fields.one_or_more)] = ()

    @property
    def everything(self) -> bool:
        return not (self.type or self.name or self.id)

    def serves(self, resource: Resource) -> bool:
        facts = ((self.type, resource.type), (self.name, resource.name), (self.id, resource.id))
        return all(not patterns or _any_matches(patterns, fact or "") for patterns, fact in facts)


class Amounts(Section):
    """CPU in millicores, memory and storage in bytes, or `unlimited`; None where nothing was said."""

    cpu: Annotated[Amount, PlainValidator(fields.cpu)] = None
    memory: Annotated[Amount, PlainValidator(fields.size)] = None
    storage: Annotated[Amount, PlainValidator(fields.size)] = None


class ImagesSection(Section):
    """An allow-list, and what becomes of an image that is not on it."""

    allow: Annotated[tuple[str, ...], PlainValidator(fields.text_list)] = ()
    on_violation: OnViolation = "reject"

    def container_policy(self, *at: str) -> ImagePolicy:
        """The policy for container images. Raises the problem of the first pattern that is none, `at` before it."""
        patterns: list[ImagePattern] = []
        for index, written in enumerate(self.allow):
            try:
                patterns.append(parse_pattern(written))
            except ValueError as error:
                raise problem(str(error), *at, "allow", index) from None
        return ImagePolicy(tuple(patterns), self.on_violation)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise problem(f"{quoted(value)} is not a name: use letters, digits, '.', '_' and '-', at most 63")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise problem(f"{quoted(value)} is not an absolute path: begin it with /")
    return value


def _overrides(value: Any) -> frozenset[Parameter]:
    known = {parameter.value for parameter in Parameter}
    for index, item in enumerate(fields.text_list(value)):
        if item not in known:
            raise problem(f"{quoted(item)} is not a parameter{did_you_mean(item, known)}", index)
    return frozenset(Parameter(item) for item in value)


def _variables(value: Any) -> Mapping[str, str]:
    variables = fields.texts(value)
    for name in variables:
        if name in RESERVED_VARIABLES:
            raise problem("is set by Moorage for every environment: leave it out", name)
    return fields.read(check_variables, variables.items())


def _labels(value: Any) -> Mapping[str, str]:
    labels = fields.texts(value)
    for label in labels:
        if label == MANAGED_BY or label.lower().startswith("moorage/") or not label:
            raise problem("is a label that Moorage sets itself: choose another", label)
    return labels


class Template(Section):
    """One entry of the file, checked. `limits`, `minimum` and `maximum` come together in `bounds`."""

    name: Annotated[str, AfterValidator(_name)]
    match: Match = Match()
    runtime: Runtime
    engines: Annotated[tuple[str, ...], PlainValidator(fields.one_or_more)] = ()
    """Those of the file's `engines` that it may use, in no order; without, it is the runtime's own."""

    image: str | None = None
    entrypoint: Annotated[tuple[str, ...], PlainValidator(fields.text_list)] = ()
    command: Annotated[tuple[str, ...], PlainValidator(fields.text_list)] = ()
    working_dir: Annotated[str, AfterValidator(_absolute)] | None = None
    limits: Amounts = Amounts()
    minimum: Amounts = Amounts()
    maximum: Amounts = Amounts()
    on_unenforceable: Literal["warn", "refuse"] = "warn"
    """What happens where the runtime cannot hold an environment to its storage limit, or a volume to its size."""

    volume: VolumeSection | None = None
    gpus: Annotated[Gpus | None, PlainValidator(gpu_count)] = None
    devices: Annotated[tuple[str, ...], PlainValidator(device_names)] = ()
    ports: Annotated[tuple[Port, ...], PlainValidator(fields.port_list)] = ()
    host_ports: Annotated[PortRange | None, PlainValidator(fields.port_range)] = None
    on_host_port: Literal["allocate", "refuse"] = "allocate"
    environment: Annotated[Mapping[str, str], PlainValidator(_variables)] = Field(default_factory=dict)
    labels: Annotated[Mapping[str, str], PlainValidator(_labels)] = Field(default_factory=dict)
    access: AccessSection = AccessSection()
    security: SecuritySection | None = None
    kubernetes: KubernetesSection | None = None
    images: ImagesSection | None = None
    overrides: Annotated[frozenset[Parameter], PlainValidator(_overrides)] = frozenset(Parameter)
    on_disallowed: Literal["refuse", "ignore"] = "refuse"
    restart: Literal["never", "always"] = "never"
    """Whether an environment that is lost while its reservation lasts is made again."""

    exclusive: bool = False
    """Whether a resource holds one environment at a time: a start waits until the one before is gone."""

    pull: PullPolicy = "if-not-present"
    prepull: bool = False
    """Whether the image is fetched as soon as a reservation is known, so that its start is quick."""

    messages: MessagesSection = MessagesSection()
    quotas: Quotas = Quotas()
    """What may be in use at a time of its environments, beside the quotas for all templates."""

    start_timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = None
    ready: ReadySection = ReadySection()
    """What must answer before a user is told that the environment is there."""

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Where its environments may be made: the engines of its pool, or the one runtime."""
        return tuple(engine_name(self.runtime, name) for name in self.engines) or (self.runtime,)

    @property
    def bounds(self) -> Mapping[Parameter, Bounds]:
        """What users get and may ask for, by parameter: cpu_limit, memory_limit, storage_limit."""
        rules = {Parameter.CPU_LIMIT: CPU, Parameter.MEMORY_LIMIT: MEMORY, Parameter.STORAGE_LIMIT: STORAGE}
        return {
            parameter: rule.bounds(*(getattr(part, rule.field) for part in (self.limits, self.minimum, self.maximum)))
            for parameter, rule in rules.items()
        }

    @property
    def offered(self) -> frozenset[Parameter]:
        """What users may choose: what `overrides` lists, but no limit without a bound."""
        return self.overrides - {parameter for parameter, bounds in self.bounds.items() if not bounds.offered}

    def image_policy(self, common: ImagePolicy) -> ImagePolicy | MachineImagePolicy:
        """Its own allow-list, or `common` when it has none; machines never share one with containers."""
        own = self.images or ImagesSection()
        if self.runtime in MACHINE_RUNTIMES:
            return MachineImagePolicy(own.allow, own.on_violation)
        return common if self.images is None else own.container_policy("images")

    @model_validator(mode="after")
    def _limits_make_sense(self) -> Self:
        if UNLIMITED in (self.minimum.cpu, self.minimum.memory, self.minimum.storage):
            raise problem("cannot be unlimited: write the least that an environment needs", "minimum")
        for bounds in self.bounds.values():
            if (complaint := bounds.complaint()) is not None:
                raise problem(*complaint)
        return self

    @model_validator(mode="after")
    def _what_is_probed_is_published(self) -> Self:
        published = {port.container for port in self.ports if port.protocol == "tcp"} | {
            self.access.http,
            self.access.ssh,
        }
        if (probe := self.ready.probe) is not None and probe[1] not in published:
            raise problem(f"is {probe[1]}, which is not among the TCP ports: add it to ports", "ready", probe[0])
        return self

    @model_validator(mode="after")
    def _pulls_before_if_at_all(self) -> Self:
        if self.prepull and self.pull == "never":
            raise problem("fetches nothing, because pull is never: leave one of them out", "prepull")
        return self

    @model_validator(mode="after")
    def _runtime_can(self) -> Self:
        contained = self.runtime in CONTAINER_RUNTIMES
        there = dict.fromkeys(("engines", "entrypoint", "volume", "gpus"), contained)
        there["devices"] = self.runtime in CONTAINER_ENGINES
        for field, can in there.items():
            if getattr(self, field) and not can:
                raise problem(f"cannot be had with {self.runtime}: leave it out", field)
        if self.runtime == "process" and self.on_unenforceable == "refuse":
            raise problem("cannot be refuse with process, which bounds no environment as a whole", "on_unenforceable")
        if self.access.ssh_key == "required" and not contained:
            raise problem(f"cannot be required with {self.runtime}, which installs none", "access", "ssh_key")
        return self

    @model_validator(mode="after")
    def _data_is_where_it_is_used(self) -> Self:
        if len(self.engines) > 1 and self.volume is not None and self.volume.scope == "user":
            why = "a user's volume is on one engine, and their next environment may be on another"
            raise problem(f"{why}: name one engine, or write `scope: reservation`", "engines")
        return self

    @model_validator(mode="after")
    def _kubernetes_can(self) -> Self:
        if self.runtime != "kubernetes":
            if self.kubernetes is not None:
                raise problem(f"is for kubernetes, and the runtime is {self.runtime}: leave it out", "kubernetes")
            return self
        if self.kubernetes is not None and self.kubernetes.leads and not isinstance(self.access.http, int):
            why = "leads to the port of the environment's pages, and there is none: add `access: {http: 8080}`"
            raise problem(why, "kubernetes", self.kubernetes.leads)
        if self.gpus == "all":
            raise problem("cannot be all with kubernetes, which gives GPUs by number: write how many", "gpus")
        for field in ("pids", "open_files"):
            if self.security is not None and getattr(self.security, field) is not None:
                why = "cannot be set with kubernetes, where the nodes bound it (podPidsLimit of the kubelet)"
                raise problem(f"{why}: leave it out", "security", field)
        return self

    @model_validator(mode="after")
    def _requests_are_within_limits(self) -> Self:
        if self.kubernetes is None:
            return self
        for bounds in self.bounds.values():
            request, show = getattr(self.kubernetes.requests, bounds.kind.field), bounds.kind.show
            if request is not None and bounds.usual is not None and request > bounds.usual:
                why = f"is {show(request)}, above the limit of {show(bounds.usual)}: lower it, or raise the limit"
                raise problem(why, "kubernetes", "requests", bounds.kind.field)
        return self

    @model_validator(mode="after")
    def _volume_suits_the_runtime(self) -> Self:
        if self.runtime != "kubernetes" and self.volume is not None and self.volume.of_clusters is not None:
            why = f"is for kubernetes, and the runtime is {self.runtime}: leave it out"
            raise problem(why, "volume", self.volume.of_clusters)
        return self

    @model_validator(mode="after")
    def _security_suits_the_runtime(self) -> Self:
        if self.security is not None and self.runtime not in CONTAINER_RUNTIMES:
            raise problem(f"is for containers, and {self.runtime} has none: leave it out", "security")
        return self

    @model_validator(mode="after")
    def _image_suits_the_runtime(self) -> Self:
        if self.image is None:
            if self.runtime != "process":
                raise problem(f"is missing: {self.runtime} needs one", "image")
        elif self.runtime not in MACHINE_RUNTIMES:
            fields.read(parse_image, self.image, "image")
        elif not self.image.isprintable() or not self.image.strip():
            raise problem("is empty or holds control characters", "image")
        self.image_policy(ImagePolicy())
        return self


def _any_matches(patterns: tuple[str, ...], fact: str) -> bool:
    folded = fact.strip().casefold()
    return any(fnmatchcase(folded, pattern.strip().casefold()) for pattern in patterns)
