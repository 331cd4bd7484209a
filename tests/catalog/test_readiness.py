"""What a template asks for before an environment counts as ready."""

import pytest

from consumer.catalog.environment import Readiness
from tests.catalog.reservations import catalog, reservation
from tests.catalog.test_templates import problem

PORTS = 'ports: ["8888", "53/udp"], access: {ssh: 22}'


def readiness(template: str) -> Readiness:
    return catalog(f"{PORTS}, {template}").resolve(reservation()).ready


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        ("{}", Readiness()),
        ("{http: 8888}", Readiness(8888, "/")),
        ('{http: 8888, path: "/lab?a=b", within: 2.5}', Readiness(8888, "/lab?a=b", within=2.5)),
        ("{tcp: 22, health: false}", Readiness(22, health=False)),
    ],
)
def test_what_is_asked_for(ready: str, expected: Readiness) -> None:
    assert readiness(f"ready: {ready}") == expected


def test_without_a_word_only_the_images_own_check_counts() -> None:
    assert readiness("restart: never") == Readiness(port=None, path=None, health=True, within=60.0)


def test_it_does_not_make_another_environment() -> None:
    asked, not_asked = (
        catalog(f"{PORTS}, {each}").resolve(reservation()) for each in ("ready: {tcp: 22}", "ready: {}")
    )
    assert asked.spec_hash == not_asked.spec_hash


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        ("{http: 53}", "is 53, which is not among the TCP ports: add it to ports"),
        ("{tcp: 80}", "is 80, which is not among the TCP ports: add it to ports"),
        ("{http: x}", '"x" is not a port number between 1 and 65535.'),
        ("{http: 8888, tcp: 22}", "is given beside http: keep one of the two"),
        ("{path: /x}", "is given without http: say on which port the page is"),
        ('{http: 8888, path: "lab"}', 'is not a path: write one like "/health"'),
        (r'{http: 8888, path: "/a\r\nHost: b"}', 'is not a path: write one like "/health"'),
        ("{http: 8888, within: 0}", "should be greater than 0"),
        ("{https: 8888}", 'is not known; did you mean "http"?'),
        ("80", "is not a set of keys"),
    ],
)
def test_what_makes_no_sense_is_refused(ready: str, expected: str) -> None:
    assert expected in problem(f"{PORTS}, ready: {ready}")
