"""Environment variables: read as typed, bounded, and never repeated in a message."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.catalog.environment import RESERVED_VARIABLES
from consumer.catalog.errors import Refused
from consumer.catalog.variables import (
    MAX_VARIABLES,
    check_variables,
    denied_to_users,
    parse_environment,
    refuse_denied,
    reservation_variables,
)
from schemas.events import Resource, User
from tests.catalog.reservations import attempt, checked, refusal, reservation

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


NUMBERS = {"A": "1.10", "B": "true", "C": "false", "D": "10000000000000000000000"}


@given(st.dictionaries(names, values, max_size=MAX_VARIABLES))
def test_json_reads_back(wanted: dict[str, str]) -> None:
    assert parse_environment(json.dumps(wanted)) == wanted


@given(st.dictionaries(names, values, max_size=20), st.sampled_from([",", ", ", "\n", " ,\n"]))
def test_double_quoted_values_read_back(wanted: dict[str, str], separator: str) -> None:
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in wanted.items()}
    assert parse_environment(separator.join(f'{name}="{value}"' for name, value in quoted.items())) == wanted


@given(names, values.filter(lambda v: "'" not in v))
def test_single_quoted_values_are_taken_as_they_are(name: str, value: str) -> None:
    assert parse_environment(f"{name}='{value}'") == {name: value}


@given(st.text(max_size=60) | st.text("AB=,\\\"' \n1{}[]:", max_size=60))
@example("[" * 8000)
@example("{" * 8000)
@example('{"A":' + "9" * 5000 + "}")
@example('{"A":"\\ud800"}')
@example("=" * 16_000)
@example("," * 16_000)
@example("A=1," * 4000)
@example("A=\ud800")
def test_whatever_is_typed_is_variables_within_bounds_or_refused(text: str) -> None:
    outcome = attempt(lambda: parse_environment(text), Refused)
    if isinstance(outcome, Refused):
        assert checked(outcome).code == "environment_invalid"
    else:
        assert len(outcome) <= MAX_VARIABLES
        assert all("\0" not in value and value.encode() is not None for value in outcome.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COURSE=net-lab,GROUP=3", {"COURSE": "net-lab", "GROUP": "3"}),
        ("A=x=y", {"A": "x=y"}),
        ("A=", {"A": ""}),
        (" A = 1 , B = 2 ", {"A": "1", "B": "2"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1,,B=2,", {"A": "1", "B": "2"}),
        ('A="x, y",B=1', {"A": "x, y", "B": "1"}),
        (r'A="say \"hi\" \n"', {"A": r'say "hi" \n'}),
        ("""A='x, "y"',B=1""", {"A": 'x, "y"', "B": "1"}),
        (r"A=x\, y,B=1", {"A": "x, y", "B": "1"}),
        (r"A=C:\temp\\,B=1", {"A": "C:\\temp\\", "B": "1"}),
        (r"A=\"x", {"A": '"x'}),
        ("A=it's,B=1", {"A": "it's", "B": "1"}),
        ("A=\\", {"A": "\\"}),
        ("A=1,A=1", {"A": "1"}),
        ('{"A": 1.10, "B": true, "C": false, "D": 10000000000000000000000}', NUMBERS),
        ("", {}),
        ("{}", {}),
    ],
)  # fmt: skip
def test_forms_that_are_read(text: str, expected: dict[str, str]) -> None:
    assert parse_environment(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hunter2", "variable 1 has no = sign"),
        ("A=1,hunter2", "variable 2 has no = sign"),
        ("A=1,hunter2,B=2", "variable 2 has no = sign"),
        ("=hunter2", "name of variable 1"),
        ("1A=hunter2", "name of variable 1"),
        ("hunter 2=x", "name of variable 1"),
        ("É=1", "name of variable 1"),
        ("A=hunter2,A=2", "A is set twice"),
        ('A="hunter2', "never closed"),
        ("A='hunter2", "never closed"),
        ('A="x" hunter2,B=1', "more text"),
        ("A=hunter2\0", "no program can be given"),
        ('{"A":"hunter2\\ud800"}', "no program can be given"),
        ('{"A":"hunter2","A":2}', "twice"),
        ('{"A":["hunter2"]}', "not a text or a number"),
        ('{"A":null}', "not a text or a number"),
        ('{"A":"hunter2"', "not valid JSON"),
        ('["hunter2"]', "not an object"),
        ("A" * 129 + "=hunter2", "longer than 128"),
        ("A=hunter2" + "x" * 4096, "longer than 4096"),
        ("A=hunter2" + "x" * 16_384, "longer than 16384"),
        (",".join(f"A{n}=hunter2" for n in range(65)), "more than 64"),
    ],
)
def test_forms_that_are_refused_say_why_and_tell_no_secret(text: str, why: str) -> None:
    refused = refusal(lambda: parse_environment(text))
    assert refused.code == "environment_invalid"
    assert why in refused.message
    assert "hunter" not in refused.message


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "MOORAGE_RECORD"])
@pytest.mark.parametrize("runtime", ["docker", "process", "kubernetes"])
def test_what_decides_which_programs_run_is_denied(name: str, runtime: str) -> None:
    refused = refusal(lambda: refuse_denied({"OK": "1", name: "hunter2"}, runtime))
    assert refused.code == "environment_invalid"
    assert refused.message == f"Environment: {name} may not be set by users. Leave it out."


@pytest.mark.parametrize("name", ["BASH_ENV", "PYTHONPATH", "NODE_OPTIONS", "PERL5OPT"])
def test_interpreters_hooks_are_denied_to_processes_on_our_host_only(name: str) -> None:
    assert denied_to_users(name, "process")
    assert not denied_to_users(name, "docker")


@pytest.mark.parametrize("name", ["COURSE", "path", "OLD_NAME", "PATHS"])
def test_other_names_are_free(name: str) -> None:
    assert not denied_to_users(name, "process")


def test_a_long_name_is_not_repeated_in_full() -> None:
    message = refusal(lambda: check_variables([("A" * 128, None)])).message
    assert "A" * 41 not in message


def test_an_environment_is_told_about_its_reservation() -> None:
    assert reservation_variables(reservation()) == {
        "USER": "mario_rossi",
        "USER_ID": "5f0c8a52",
        "USER_EMAIL": "mario.rossi@example.org",
        "RESOURCE_ID": "12",
        "RESOURCE_NAME": "GPU Server 1",
        "RESOURCE_TYPE": "Linux container",
        "RESERVATION_ID": "1841",
        "RESERVATION_START": "2026-03-02T08:00:00Z",
        "RESERVATION_END": "2026-03-02T10:00:00Z",
    }


def test_what_the_platform_did_not_look_up_is_left_out() -> None:
    sparse = reservation_variables(reservation(user=User(id="u"), resource=Resource(id="r")))
    assert "USER_EMAIL" not in sparse
    assert "RESOURCE_TYPE" not in sparse
    assert (sparse["USER"], sparse["RESOURCE_NAME"]) == ("u", "r")


@given(st.text(max_size=20))
def test_names_people_chose_can_be_given_to_any_program(name: str) -> None:
    told = reservation_variables(reservation(user=User(id="u", name=name), resource=Resource(id="r", name=name)))
    assert set(told) <= RESERVED_VARIABLES
    assert all(value.isprintable() and value.encode() is not None for value in told.values())
