"""Ways to pages by a cluster's own door: what operators get wrong, and hosts that nobody shares."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.environment import EnvironmentSpec, Kubernetes
from consumer.catalog.errors import CatalogError
from consumer.catalog.identity import LONGEST_NAME, environment_name
from consumer.catalog.needs import Needs
from consumer.catalog.routes import NAME, Gateway, Ingress, Route, host_of, url_of
from schemas.events import Resource, User
from tests.catalog.reservations import catalog, reservation

HOST = 'host: "{name}.labs.example.org"'
LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
texts = st.text(max_size=40)


def resolved(
    section: str, asked: dict[str, str] | None = None, *, more: str = "access: {http: 8080}"
) -> EnvironmentSpec:
    lab = catalog(f"runtime: kubernetes, kubernetes: {{{section}}}, {more}")
    return lab.resolve(reservation(asked or {}))


def mistake(section: str, *, more: str = "access: {http: 8080}") -> str:
    with pytest.raises(CatalogError) as caught:
        resolved(section, more=more)
    (only,) = caught.value.problems
    return only.split(": ", 1)[1]


def route_to(host: str) -> Route:
    route = resolved(f'ingress: {{host: "{host}", tls: true}}').kubernetes.route
    assert route is not None
    return route


ROUTES = [*map(route_to, ("{name}.labs.example.org", "x" * 22 + "-{name}.org", "{name}-x" + ".abcdefg" * 25))]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            f"ingress: {{{HOST}, class_name: nginx, tls: labs-wildcard, annotations: {{example.org/a: '1', b: ~}}}}",
            Ingress(
                host="{name}.labs.example.org",
                https=True,
                annotations={"example.org/a": "1", "b": ""},
                class_name="nginx",
                secret="labs-wildcard",
            ),
        ),
        (f"ingress: {{{HOST}, tls: true}}", Ingress(host="{name}.labs.example.org", https=True)),
        (f"ingress: {{{HOST}, tls: no}}", Ingress(host="{name}.labs.example.org")),
        (
            f"gateway: {{{HOST}, name: public, namespace: gateways, section: https, tls: true}}",
            Gateway(host="{name}.labs.example.org", https=True, name="public", namespace="gateways", section="https"),
        ),
        (f"gateway: {{{HOST}, name: public}}", Gateway(host="{name}.labs.example.org", name="public")),
        ("service: cluster", None),
    ],
)
def test_a_section_means(section: str, expected: Ingress | Gateway | None) -> None:
    assert resolved(section).kubernetes.route == expected


@pytest.mark.parametrize("section", [f"ingress: {{{HOST}, tls: %s}}", f"gateway: {{{HOST}, name: public, tls: %s}}"])
@pytest.mark.parametrize(
    ("tls", "https"), [("on", True), ("True", True), ('"1"', True), ("off", False), ("FALSE", False), ('"0"', False)]
)
def test_yes_and_no_are_written_alike_in_both_kinds_of_route(section: str, tls: str, https: bool) -> None:
    route = resolved(section % tls).kubernetes.route

    assert route is not None
    assert route.https is https
    assert getattr(route, "secret", None) is None


@pytest.mark.parametrize(
    "host",
    [
        "labs.example.org",
        "labs.{name}.example.org",
        "{name}-{name}.example.org",
        "{name}.{name}.example.org",
    ],
)
def test_every_host_has_the_name_of_its_environment_in_its_first_part(host: str) -> None:
    assert f'"{host}" must have {{name}} in its first part, and only there' in mistake(f'ingress: {{host: "{host}"}}')


@pytest.mark.parametrize(
    "host",
    [
        "{name}",
        "{name}.",
        "{name}.Labs.example.org",
        "{name}.{user}.org",
        "-{name}.org",
        "{name}.labs_1.org",
        "{name}..org",
        "*{name}.org",
        "{name}.org/x",
        "{name}.org:8443",
        "{name}.labs.é",
    ],
)
def test_a_host_is_a_name_that_dns_can_have(host: str) -> None:
    assert "is not a host name in lower case with a domain" in mistake(f'gateway: {{host: "{host}", name: a}}')


@pytest.mark.parametrize("host", ["x" * 24 + "{name}.org", "{name}" + ".abcdefg" * 27, "{name}." + "x" * 64 + ".org"])
def test_a_host_has_room_for_the_longest_name(host: str) -> None:
    assert "is too long with a name of 40 characters in it" in mistake(f'ingress: {{host: "{host}"}}')


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("ingress: {}", 'kubernetes.ingress.host (template "lab"): is missing: add it'),
        (f"ingress: {{{HOST}, class: nginx}}", 'is not known; did you mean "class_name"?'),
        (f"ingress: {{{HOST}, class_name: N}}", 'class_name (template "lab"): "N" is not the name of an object'),
        (f"ingress: {{{HOST}, tls: a_b}}", 'kubernetes.ingress.tls (template "lab"): "a_b" is not the name of an'),
        (f"ingress: {{{HOST}, annotations: {{a b: x}}}}", 'annotations.a b (template "lab"): is not the name of an'),
        (f"ingress: {{{HOST}, annotations: {{a/b/c: x}}}}", "is not the name of an annotation"),
        (f"ingress: {{{HOST}, annotations: {{moorage/url: x}}}}", "is what Moorage sets itself: choose another"),
        (f"ingress: {{{HOST}, annotations: {{kubernetes.io/ingress.class: x}}}}", "write `class_name`"),
        (f"ingress: {{{HOST}, annotations: {{a: {'x' * 4097}}}}}", "is longer than 4096 characters"),
        (f"ingress: {{{HOST}, annotations: [a]}}", "is not a set of names and values"),
        (f"gateway: {{{HOST}}}", 'kubernetes.gateway.name (template "lab"): is missing: add it'),
        (f"gateway: {{{HOST}, name: a, namespace: a.b}}", '"a.b" is not the name of a namespace'),
        (f"gateway: {{{HOST}, name: a, section: A}}", '"A" is not the name of an object'),
        (f"gateway: {{{HOST}, name: a, tls: secret}}", "should be a valid boolean"),
        (f"ingress: {{{HOST}}}, gateway: {{{HOST}, name: a}}", "cannot be had beside ingress: leave one of them out"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(section: str, expected: str) -> None:
    assert expected in mistake(section)


def test_annotations_are_few() -> None:
    many = ", ".join(f"a{number}: x" for number in range(33))
    assert "lists 33; at most 32 can be" in mistake(f"ingress: {{{HOST}, annotations: {{{many}}}}}")


@pytest.mark.parametrize("more", ['ports: ["80"]', "access: {http: none}", "access: {ssh: 22}"])
def test_a_way_to_pages_needs_their_port(more: str) -> None:
    expected = '(template "lab"): leads to the port of the environment\'s pages, and there is none: add `access: {http:'
    assert f"kubernetes.ingress {expected}" in mistake(f"ingress: {{{HOST}}}", more=more)
    assert f"kubernetes.gateway {expected}" in mistake(f"gateway: {{{HOST}, name: a}}", more=more)


def test_ports_that_users_ask_for_do_not_lead_elsewhere() -> None:
    spec = resolved(
        f"ingress: {{{HOST}}}", {"ports": '[{"container_port": 80}, {"container_port": 8080, "service_port": 9}]'}
    )
    assert spec.access.http_port == 8080
    assert [(port.container, port.service) for port in spec.ports] == [(80, None), (8080, 9)]


def test_a_way_makes_another_environment_and_none_leaves_it_as_it_was() -> None:
    plain, led = resolved("service: cluster"), resolved(f"service: cluster, ingress: {{{HOST}}}")
    https = resolved(f"service: cluster, ingress: {{{HOST}, tls: true}}")
    gateway = resolved(f"service: cluster, gateway: {{{HOST}, name: a}}")
    assert len({each.spec_hash for each in (plain, led, https, gateway)}) == 4
    assert replace(led, kubernetes=Kubernetes("cluster")).spec_hash == plain.spec_hash


def test_doctor_is_told_which_ways_templates_have() -> None:
    lab = catalog(f"runtime: kubernetes, kubernetes: {{ingress: {{{HOST}}}}}, access: {{http: 80}}")
    assert Needs.of(lab.templates).routes == (("lab", Ingress(host="{name}.labs.example.org")),)


@given(st.tuples(texts, texts, texts, texts), st.tuples(texts, texts, texts, texts), st.sampled_from(ROUTES))
def test_no_two_reservations_have_one_host_whoever_calls_themselves_what(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str], route: Route
) -> None:
    names = [
        environment_name(instance, reservation_id, User(user, user), Resource(resource, resource))
        for instance, reservation_id, user, resource in (one, other)
    ]
    hosts = [host_of(route, name) for name in names]
    for host, name in zip(hosts, names, strict=True):
        assert len(host) <= 253
        assert all(LABEL.fullmatch(label) for label in host.split("."))
        assert url_of(route, name) == f"https://{host}"
    assert (hosts[0] == hosts[1]) == (names[0] == names[1])
    if one[:2] != other[:2]:
        assert hosts[0] != hosts[1]


def test_the_longest_name_fits_into_the_longest_host() -> None:
    assert len(host_of(route_to("x" * 23 + NAME + ".org"), "n" * LONGEST_NAME).split(".")[0]) == 63
