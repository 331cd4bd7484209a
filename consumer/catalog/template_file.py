"""The template file as a whole: from text to checked templates, or to every problem in it with line and remedy."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, ValidationError, model_validator
from pydantic_core import ErrorDetails

from consumer.catalog import fields
from consumer.catalog.bounds import Bounds
from consumer.catalog.engine_section import EngineSection
from consumer.catalog.errors import CatalogError
from consumer.catalog.fields import Section, problem
from consumer.catalog.messages import MessagesSection
from consumer.catalog.parameters import Parameter, alias_table
from consumer.catalog.quota_section import Quota, Quotas
from consumer.catalog.strictyaml import Document, Location, YamlError, read_yaml
from consumer.catalog.template import ImagesSection, Template
from consumer.catalog.wording import did_you_mean, printable, quoted

MAX_TEMPLATES = 500
_MAX_PROBLEMS = 10

_SENTENCES = {
    "missing": "is missing: add it",
    "string_type": "is not a text",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
}


def _version(value: Any) -> int:
    if value != "1":
        raise problem(f"is {quoted(str(value))}; this Moorage reads version 1")
    return 1


def _aliases(value: Any) -> Mapping[str, Parameter]:
    if not isinstance(value, dict):
        raise problem("is not a set of parameters, each with its labels")
    known = {parameter.value for parameter in Parameter}
    for name in value:
        if name not in known:
            raise problem(f"is not a parameter{did_you_mean(name, known)}", name)
    labels = {Parameter(name): fields.one_or_more(item) for name, item in value.items()}
    try:
        return alias_table(labels)
    except ValueError as error:
        raise problem(str(error)) from None


class TemplateFile(Section):
    """All that a file says; of several templates that match, the first one counts."""

    version: Annotated[int, PlainValidator(_version)]
    images: ImagesSection = ImagesSection()
    aliases: Annotated[Mapping[str, Parameter], PlainValidator(_aliases)] = Field(default_factory=alias_table)
    messages: MessagesSection = MessagesSection()
    quotas: Quotas = Quotas()
    engines: tuple[EngineSection, ...] = ()
    templates: tuple[Template, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 1 <= len(self.templates) <= MAX_TEMPLATES:
            raise problem(f"lists {len(self.templates)} templates: between 1 and {MAX_TEMPLATES} can be", "templates")
        self.images.container_policy("images")
        for name, count in Counter(template.name for template in self.templates).items():
            if count > 1:
                raise problem(f"has {count} templates named {quoted(name)}: give each its own name", "templates")
        for index, template in enumerate(self.templates[:-1]):
            if template.match.everything:
                after = f"matches every resource, so {quoted(self.templates[index + 1].name)} is never used"
                raise problem(f"{after}: put it last, or give it a match", "templates", index)
        return self

    @model_validator(mode="after")
    def _engines_are_several(self) -> Self:
        """Two names for one engine would each take the other's environments for strays."""
        for field in ("name", "url"):
            values = (getattr(engine, field) for engine in self.engines)
            for value, count in Counter(value for value in values if value is not None).items():
                if count > 1:
                    why = f"has {count} engines with the {field} {quoted(value)}"
                    raise problem(f"{why}: each has its own", "engines")
        return self

    @model_validator(mode="after")
    def _clusters_are_several(self) -> Self:
        places: dict[tuple[Any, ...], str] = {}
        for engine in self.engines:
            place = (engine.kubeconfig, engine.context, engine.namespace)
            if engine.is_cluster and (first := places.setdefault(place, engine.name)) != engine.name:
                why = f"has {quoted(first)} and {quoted(engine.name)} with the same kubeconfig, context and namespace"
                raise problem(f"{why}: that is one cluster, so give it one name", "engines")
        return self

    @model_validator(mode="after")
    def _engines_are_known(self) -> Self:
        known = {engine.name: engine.runtime for engine in self.engines}
        for index, template in enumerate(self.templates):
            for position, name in enumerate(template.engines):
                if name not in known:
                    why = (
                        did_you_mean(name, known) if known else ": add `engines`, each with where it is and a capacity"
                    )
                    raise problem(f"{quoted(name)} is not an engine{why}", "templates", index, "engines", position)
                if known[name] != template.runtime:
                    why = f"{quoted(name)} is an engine of {known[name]}, and the template's runtime {template.runtime}"
                    raise problem(f"{why}: use engines of one kind", "templates", index, "engines", position)
            if len(set(template.engines)) < len(template.engines):
                raise problem("names an engine twice", "templates", index, "engines")
        return self

    @model_validator(mode="after")
    def _quotas_have_room(self) -> Self:
        """Each template's usual environment must be countable, and fit into its quotas: it could never start."""
        for index, template in enumerate(self.templates):
            for quotas in (self.quotas, template.quotas):
                for most in (quotas.user, quotas.total):
                    for bounds in template.bounds.values():
                        if (complaint := _never_fits(bounds, most)) is not None:
                            raise problem(complaint, "templates", index, "limits", bounds.kind.field)
        return self


def _never_fits(bounds: Bounds, most: Quota) -> str | None:
    quota: int | None = getattr(most, bounds.kind.field, None)  # there is none for storage
    if quota is None:
        return None
    if bounds.usual is None:
        return f"is unlimited, and a quota bounds {bounds.kind.title}: state a limit, so that it can be counted"
    if bounds.usual > quota:
        show = bounds.kind.show
        return f"is {show(bounds.usual)}, above a quota of {show(quota)}: nobody could start one"
    return None


def read_template_file(text: str, source: str) -> TemplateFile:
    """Raises `CatalogError`; `source` is what its messages call the text."""
    try:
        document = read_yaml(text)
    except YamlError as error:
        raise CatalogError([f"{source}{'' if error.line is None else f':{error.line}'}: {error}"]) from None
    return check_template_file(document, source)


def check_template_file(document: Document, source: str) -> TemplateFile:
    """As `read_template_file`, from what YAML came to."""
    if document.value is None:
        raise CatalogError([f"{source}: is empty; begin with `version: 1` and `templates:`"])
    try:
        return TemplateFile.model_validate(document.value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    problems = [_sentence(detail, document, source) for detail in details[:_MAX_PROBLEMS]]
    if len(details) > _MAX_PROBLEMS:
        problems.append(f"{source}: and {len(details) - _MAX_PROBLEMS} more problems")
    raise CatalogError(problems)


def _sentence(detail: ErrorDetails, document: Document, source: str) -> str:
    context = detail.get("ctx", {})
    location: Location = (*detail["loc"], *context.get("at", ()))
    line = document.line_of(location)
    where = f"{source}:{line}" if line is not None else source
    message = _SENTENCES.get(detail["type"], detail["msg"].replace("Input should", "should"))
    return ": ".join(part for part in (where, _path(location, document.value), message) if part)


def _path(location: Location, value: Any) -> str:
    """`templates[2].limits.cpu (template "linux")`: entries by position, and by name when they have one."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in location).lstrip(".")
    if location[:1] == ("templates",) and len(location) > 1:
        entry = value["templates"][location[1]]
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            path += f" (template {quoted(entry['name'])})"
    return path
