"""What the documents show is what the code reads."""

import ast
import re
from pathlib import Path

import pytest

from consumer.catalog import codes, messages, ports, quantities, quota_section, template, template_file, variables
from consumer.catalog.access import AccessSection
from consumer.catalog.engine_section import EngineSection
from consumer.catalog.environment import RESERVED_VARIABLES
from consumer.catalog.fields import Section
from consumer.catalog.kubernetes import KubernetesSection
from consumer.catalog.parameters import DEFAULT_ALIASES, Parameter, parse_parameters
from consumer.catalog.route_sections import GatewaySection, IngressSection
from consumer.catalog.strictyaml import read_yaml
from consumer.catalog.templates import Catalog
from consumer.catalog.volumes import VolumeSection
from schemas.events import Resource
from schemas.outbound import NOTIFICATION_LIMIT, Outcome
from tests.catalog.reservations import reservation

ROOT = Path(__file__).parents[2]
HOW_TO = (ROOT / "docs/how-to/templates.md").read_text()
REFERENCE = (ROOT / "docs/reference/parameters.md").read_text()
EXAMPLE = (ROOT / "deploy/templates.example.yaml").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", HOW_TO, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_the_how_to_is_a_catalog(text: str) -> None:
    assert Catalog.from_yaml(text, instance="test").templates


def test_the_how_to_shows_every_key_of_a_template_in_its_complete_example() -> None:
    complete = Catalog.from_yaml(EXAMPLES[1], instance="test").templates[0]
    assert complete.model_fields_set == set(template.Template.model_fields) - {"images", "kubernetes"}


@pytest.mark.parametrize(
    "model",
    [
        template.Template,
        template.Match,
        AccessSection,
        VolumeSection,
        KubernetesSection,
        IngressSection,
        GatewaySection,
        template.ImagesSection,
        quota_section.Quota,
        quota_section.Quotas,
        template_file.TemplateFile,
        EngineSection,
    ],
)
def test_the_how_to_explains_every_key(model: type[Section]) -> None:
    assert [key for key in model.model_fields if f"`{key}" not in HOW_TO and f"{key}:" not in HOW_TO] == []


def test_the_how_to_shows_the_usual_texts_as_they_are() -> None:
    (shown,) = re.findall(r"<!-- usual texts.*?```yaml\n(.*?)```", HOW_TO, re.DOTALL)
    assert read_yaml(shown).value["messages"] == messages.USUAL_TEXTS


def test_the_how_to_explains_every_placeholder_and_where_it_can_be() -> None:
    everywhere, ready = set(messages.LONGEST), set(messages.PLACEHOLDERS[Outcome.PROVISIONED])
    rows = re.findall(r"^\| ((?:`\{\w+\}`(?:, )?)+) \| ([^|]+) \|", HOW_TO, re.MULTILINE)
    explained = {name: where for names, where in rows for name in re.findall(r"\{(\w+)\}", names)}
    assert explained == {
        each.value: "all" if each in everywhere else "`provisioned`, `updated`" if each in ready else "the others"
        for each in messages.Placeholder
    }
    assert f"at most {NOTIFICATION_LIMIT - messages.ROOM} characters" in HOW_TO


def test_the_example_file_serves_what_it_says() -> None:
    example = Catalog.from_yaml(EXAMPLE, instance="test", source="deploy/templates.example.yaml")
    kinds = [("GPU Server 1", "Linux container"), ("Lab 3", "Linux container"), ("Ring", "Network lab")]
    chosen = [example.template_for(Resource(id="1", name=name, type=kind)) for name, kind in kinds]
    assert [each.name for each in chosen if each] == ["gpu", "linux", "network-lab"]
    asked = {"CPU limit": "500m", "Memory limit": "256Mi", "image": "nginx:1.27", "ports": "8080:80"}
    linux = example.resolve(reservation(asked, resource=Resource(id="1", name="Lab 3", type="Linux container")))
    assert linux.image == "docker.io/library/nginx:1.27"
    ring = example.resolve(reservation(asked, resource=Resource(id="1", name="Ring", type="Network lab")))
    assert ring.image == "registry.example.org/courses/net-lab:2026"


def test_the_reference_lists_every_label() -> None:
    for parameter in Parameter:
        labels = ", ".join(f"`{label}`" for label in DEFAULT_ALIASES[parameter])
        assert f"| `{parameter}` | {labels} |" in REFERENCE


def test_the_examples_beside_the_labels_are_read() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| `([^`]+)` \|$", REFERENCE, re.MULTILINE)
    assert {name for name, _ in rows} == set(Parameter)
    parse_parameters(dict(rows))


def test_the_environment_examples_of_the_reference_mean_what_it_says() -> None:
    rows = re.findall(r"^\| `(A=[^`]*)` \| `([^`]+)`", REFERENCE, re.MULTILINE)
    assert len(rows) == 5
    for text, value in rows:
        assert variables.parse_environment(text) == {"A": value}


def test_the_reference_states_the_caps_that_are_enforced() -> None:
    stated = (
        f"At most {ports.MAX_PORTS} ports",
        f"over {quantities.MAX_QUANTITY_LENGTH} characters",
        (
            f"At most {variables.MAX_VARIABLES} variables, {variables.MAX_NAME_LENGTH} characters a name, "
            f"{variables.MAX_VALUE_LENGTH:,} a\nvalue and {variables.MAX_ENVIRONMENT_LENGTH:,} in all"
        ),
    )
    assert [cap for cap in stated if cap not in REFERENCE] == []
    assert f"{template_file.MAX_TEMPLATES} templates" in HOW_TO


def test_the_reference_lists_every_variable_that_is_set() -> None:
    assert [name for name in RESERVED_VARIABLES if f"`{name}`" not in REFERENCE] == []


def test_the_reference_lists_every_reason() -> None:
    assert re.findall(r"^\| `(\w+)` \| ([^|]+\.) \|$", REFERENCE, re.MULTILINE) == list(codes.REASONS.items())


def test_every_reason_is_used_and_every_use_is_a_reason() -> None:
    used = set()
    for path in (ROOT / "consumer/catalog").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}: the code is not a literal"
                used.add(node.args[0].value)
    assert used == set(codes.REASONS)
