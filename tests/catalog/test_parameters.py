"""Labels that people typed, in all the ways they type them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.catalog.environment import RESERVED_VARIABLES, Port
from consumer.catalog.errors import Refused
from consumer.catalog.parameters import (
    DEFAULT_ALIASES,
    Overrides,
    Parameter,
    alias_table,
    normal_label,
    parse_parameters,
)
from tests.catalog.reservations import attempt, checked, refusal

labels = st.sampled_from([label for aliases in DEFAULT_ALIASES.values() for label in aliases]) | st.text(max_size=20)


def test_the_platforms_sample_is_understood() -> None:
    asked = parse_parameters(
        {
            "image": "nginx:1.27",
            "CPU limit": "500m",
            "Memory limit": "256Mi",
            "ports": "8080:80, 2222:22",
            "environment": "COURSE=net-lab,GROUP=3",
        }
    )
    assert asked == Overrides(
        image="nginx:1.27",
        cpu_limit=500,
        memory_limit=256 * 2**20,
        ports=(Port(80, host=8080), Port(22, host=2222)),
        environment={"COURSE": "net-lab", "GROUP": "3"},
    )


@given(st.dictionaries(labels, st.text(max_size=40), max_size=8))
@example({"cpu": "\ud800"})
@example({"ports": "[" * 4000})
@example({"\ud800": "1", "ram": "9" * 8000})
def test_whatever_people_type_is_understood_or_refused(parameters: dict[str, str]) -> None:
    outcome = attempt(lambda: parse_parameters(parameters), Refused)
    assert isinstance(outcome, Overrides) or checked(outcome)


@given(st.dictionaries(labels, st.text(max_size=40), max_size=8))
def test_where_nothing_may_be_chosen_and_all_is_ignored_nothing_can_be_wrong_but_ambiguous(
    parameters: dict[str, str],
) -> None:
    outcome = attempt(lambda: parse_parameters(parameters, allowed=frozenset(), on_disallowed="ignore"), Refused)
    if isinstance(outcome, Refused):
        assert outcome.code == "parameter_ambiguous"
    else:
        assert outcome == Overrides(ignored=outcome.ignored)


@pytest.mark.parametrize(
    "label", ["CPU limit", "cpu-limit", "CPU_LIMIT", "cpulimit", "  Cpu – Limit ", "ＣＰＵ limit", "cpu\u00a0limit"]
)
def test_case_spaces_dashes_and_underscores_make_no_difference(label: str) -> None:
    assert parse_parameters({label: "2"}).cpu_limit == 2000


@pytest.mark.parametrize("parameter", Parameter)
def test_every_parameter_is_known_by_its_own_name(parameter: Parameter) -> None:
    assert alias_table()[normal_label(parameter)] is parameter


def test_labels_that_nobody_claims_are_somebody_elses() -> None:
    assert parse_parameters({"Room": "12", "port": "Hu1/0/1", "": "x", "x" * 10_000: "y"}) == Overrides()


def test_a_field_left_blank_asks_for_nothing() -> None:
    assert parse_parameters({"image": "", "cpu": "  ", "ports": "\n"}, allowed=frozenset()) == Overrides()


def test_two_labels_that_differ_are_refused() -> None:
    refused = refusal(lambda: parse_parameters({"cpu": "1", "CPU limit": "2"}))
    assert refused.code == "parameter_ambiguous"
    assert refused.message == '"cpu" and "CPU limit" mean the same and differ: keep one of them.'


def test_two_labels_that_agree_are_one() -> None:
    assert parse_parameters({"cpu": "1", "CPU limit": " 1 ", "cpus": ""}).cpu_limit == 1000


def test_what_the_template_keeps_fixed_is_refused_by_the_label_that_was_typed() -> None:
    refused = refusal(lambda: parse_parameters({"Container Image": "nginx"}, allowed=frozenset({Parameter.PORTS})))
    assert refused.code == "override_not_allowed"
    assert refused.message.startswith('"Container Image" cannot be chosen')


def test_what_the_template_lets_pass_is_not_even_read() -> None:
    asked = parse_parameters({"cpu": "nonsense", "image": "nginx"}, allowed=frozenset(), on_disallowed="ignore")
    assert asked == Overrides(ignored=(Parameter.CPU_LIMIT, Parameter.IMAGE))


def test_variables_that_are_ours_are_left_out() -> None:
    text = ",".join(f"{name}=forged" for name in sorted(RESERVED_VARIABLES)) + ",A=1"
    assert parse_parameters({"env": text}).environment == {"A": "1"}


def test_labels_can_be_chosen_for_a_parameter_without_losing_the_others() -> None:
    aliases = alias_table({Parameter.IMAGE: ["Software"]})
    asked = parse_parameters({"software": "nginx", "image": "redis", "cpu": "1"}, aliases=aliases)
    assert (asked.image, asked.cpu_limit) == ("nginx", 1000)


def test_a_label_cannot_mean_two_things() -> None:
    with pytest.raises(ValueError, match="means both image and cpu_limit"):
        alias_table({Parameter.IMAGE: ["CPU"]})


@pytest.mark.parametrize("label", ["", " - _ ", "x" * 101])
def test_a_label_must_be_something_to_compare(label: str) -> None:
    with pytest.raises(ValueError, match="is empty or over"):
        alias_table({Parameter.IMAGE: [label]})


def test_a_refusal_echoes_little_of_what_was_typed_and_nothing_unprintable() -> None:
    nasty = "\x1b[31m\u202eevil\n" * 5
    for parameters in ({"cpu": nasty * 9}, {"ports": nasty}, {"cpu": nasty, "cpus": "1"}, {f"cpu{' ' * 90}": "1"}):
        refusal(lambda p=parameters: parse_parameters(p, allowed=frozenset({Parameter.PORTS})))  # type: ignore[misc]
