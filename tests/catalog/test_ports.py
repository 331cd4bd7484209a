"""Ports as people write them; host ports are wishes."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.catalog.environment import Port
from consumer.catalog.errors import Refused
from consumer.catalog.ports import MAX_PORTS, PortRange, merge_ports, parse_ports, parse_range, place_host_ports
from tests.catalog.reservations import attempt, checked, refusal

numbers = st.integers(1, 65535)
ports = st.lists(
    st.builds(Port, numbers, host=st.none() | numbers, protocol=st.sampled_from(["tcp", "udp"])),
    max_size=MAX_PORTS,
    unique_by=(lambda p: (p.container, p.protocol), lambda p: (p.host or p, p.protocol)),
)


@given(ports)
def test_docker_notation_reads_back(wanted: list[Port]) -> None:
    text = ", ".join(f"{f'{p.host}:' if p.host else ''}{p.container}/{p.protocol}" for p in wanted)
    assert parse_ports(text) == tuple(wanted)


@given(ports)
def test_json_reads_back(wanted: list[Port]) -> None:
    entries = [{"container_port": p.container, "host_port": p.host, "protocol": p.protocol} for p in wanted]
    assert parse_ports(json.dumps(entries)) == tuple(wanted)


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["container_port", "host", "protocol", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
).map(json.dumps)


@given(st.text(max_size=60) | st.text('0123456789:/,;udptc {}[]"\n', max_size=60) | json_texts)
@example("[" * 4000)
@example("[" + "9" * 4000 + "]")
@example('{"container_port": 1e999}')
@example('[{"container_port": NaN}]')
@example('["\\ud800"]')
@example("8" * 100_000)
def test_whatever_is_typed_is_ports_within_bounds_or_refused(text: str) -> None:
    outcome = attempt(lambda: parse_ports(text), Refused)
    if isinstance(outcome, Refused):
        assert checked(outcome).code == "ports_invalid"
    else:
        assert len(outcome) <= MAX_PORTS
        assert all(1 <= number <= 65535 for p in outcome for number in (p.container, p.host or 1, p.service or 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", (Port(80),)),
        ("8080:80, 2222:22", (Port(80, host=8080), Port(22, host=2222))),
        ("53/udp", (Port(53, protocol="udp"),)),
        ("5353:53/UDP;80/tcp\n81,", (Port(53, host=5353, protocol="udp"), Port(80), Port(81))),
        (" 8080 : 80 / tcp ", (Port(80, host=8080),)),
        ("53, 53/udp", (Port(53), Port(53, protocol="udp"))),
        ("[80, \"8080:81\"]", (Port(80), Port(81, host=8080))),
        ('{"containerPort": "80", "serviceport": 8000}', (Port(80, service=8000),)),
        ('[{"container_port": 80, "host_port": null}]', (Port(80),)),
        ("", ()),
        ("[]", ()),
    ],
)  # fmt: skip
def test_forms_that_are_read(text: str, expected: tuple[Port, ...]) -> None:
    assert parse_ports(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0", "between 1 and 65535"),
        ("65536", "between 1 and 65535"),
        ("0:80", "between 1 and 65535"),
        ("٨٠", "is not a port"),
        ("http", "is not a port"),
        ("8000-8010", "is not a port"),
        ("127.0.0.1:80:80", "is not a port"),
        ("80/sctp", "tcp or udp"),
        ("80 81", "is not a port"),
        ("80,80", "container port 80/tcp is listed twice"),
        ("8080:80,8080:81", "host port 8080/tcp is listed twice"),
        ('[{"container_port":80,"service_port":81},81]', "service port 81/tcp is listed twice"),
        (",".join(map(str, range(1, 18))), "at most 16"),
        ("[80", "not valid JSON"),
        ('[{"container_port":80,"container_port":81}]', "twice"),
        ('[{"container_port":80,"containerPort":81}]', "two values"),
        ('[{"container_prt":80}]', 'did you mean "container_port"?'),
        ('[{"host_port":80}]', "no container_port"),
        ("[80.5]", "is not a port"),
        ("[true]", "neither"),
        ("[NaN]", "not a number"),
        ('[{"container_port":[]}]', "between 1 and 65535"),
        ('[{"container_port":80,"protocol":6}]', "tcp or udp"),
        ("[" * 3000, "nested too deeply"),
        ("8" * 5000, "longer than"),
    ],
)
def test_forms_that_are_refused_say_why(text: str, why: str) -> None:
    refused = refusal(lambda: parse_ports(text))
    assert refused.code == "ports_invalid"
    assert why in refused.message


def test_a_host_port_in_the_range_is_honoured_and_others_are_allocated() -> None:
    asked = (Port(80, host=30000), Port(81, host=30999), Port(82, host=31000), Port(83))
    placed = place_host_ports(asked, PortRange(30000, 30999), "allocate")
    assert placed == (Port(80, host=30000), Port(81, host=30999), Port(82), Port(83))


def test_without_a_range_no_host_port_is_honoured() -> None:
    assert place_host_ports((Port(80, host=30000),), None, "allocate") == (Port(80),)


def test_a_host_port_outside_the_range_is_refused_where_the_template_says_so() -> None:
    refused = refusal(lambda: place_host_ports((Port(80, host=8080),), PortRange(30000, 30999), "refuse"))
    assert refused.code == "host_port_not_allowed"
    assert refused.message == "Host port 8080 is not offered: choose one of 30000-30999, or leave it out."
    refused = refusal(lambda: place_host_ports((Port(80, host=8080),), None, "refuse"))
    assert refused.message == "Host port 8080 is not offered: leave it out."


@pytest.mark.parametrize(("text", "first", "last"), [("30000-30999", 30000, 30999), ("80", 80, 80), (" 1 - 2 ", 1, 2)])
def test_a_range_is_two_ports_or_one(text: str, first: int, last: int) -> None:
    assert parse_range(text) == PortRange(first, last)


@pytest.mark.parametrize("text", ["", "-", "5-", "-5", "2-1", "1-2-3", "0-5", "1-65536"])
def test_what_is_no_range_is_refused(text: str) -> None:
    assert refusal(lambda: parse_range(text)).code == "ports_invalid"


def test_users_ports_add_to_the_templates() -> None:
    assert merge_ports((Port(22),), (Port(80),)) == (Port(22), Port(80))


def test_a_port_asked_for_again_keeps_what_the_user_left_open() -> None:
    own = (Port(80, host=30001, service=8000),)
    assert merge_ports(own, (Port(80),)) == own
    assert merge_ports(own, (Port(80, host=30002),)) == (Port(80, host=30002, service=8000),)


def test_a_user_cannot_take_the_templates_host_port_for_another_port() -> None:
    refused = refusal(lambda: merge_ports((Port(22, host=30001),), (Port(80, host=30001),)))
    assert refused.code == "ports_invalid"


@given(st.permutations([Port(80), Port(22), Port(53, protocol="udp"), Port(53)]))
def test_the_order_ports_are_typed_in_makes_no_difference(asked: list[Any]) -> None:
    assert merge_ports((), tuple(asked)) == (Port(22), Port(53), Port(53, protocol="udp"), Port(80))
