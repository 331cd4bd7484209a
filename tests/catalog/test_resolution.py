"""What a reservation comes to: bounded, complete, and the same every time."""

import string
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog import identity
from consumer.catalog.environment import RESERVED_VARIABLES, Limits, Port
from consumer.catalog.errors import Refused
from consumer.catalog.template_file import TemplateFile
from consumer.catalog.templates import Catalog, Defaults
from schemas.events import Resource, User
from tests.catalog.reservations import END, GPU_SERVER, MARIO, attempt, catalog, checked, refusal, reservation, resolved
from tests.catalog.test_parameters import labels

SAMPLE = {
    "image": "nginx:1.27",
    "CPU limit": "500m",
    "Memory limit": "256Mi",
    "ports": "8080:80, 2222:22",
    "environment": "COURSE=net-lab,GROUP=3",
}


WITH_KEY = replace(
    MARIO,
    ssh_public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN4nvTtw3tEjf9D1JkZPnTsikTngiOf6QgRYrkGcgdzC mario@laptop",
)


def test_the_platforms_sample_resolves_to_a_complete_environment() -> None:
    lab = catalog("access: {ssh: 22, ssh_user: student}, start_timeout: 90, pull: always")
    spec = lab.resolve(reservation(SAMPLE, user=WITH_KEY))
    assert spec.name == "r-mario-rossi-gpu-server-1-" + spec.key[:10]
    assert spec.key == identity.reservation_key("test", "1841")
    assert (spec.runtime, spec.template, spec.image) == ("docker", "lab", "nginx:1.27")
    assert (spec.user, spec.resource, spec.reservation_id) == (WITH_KEY, GPU_SERVER, "1841")
    assert (spec.expires_at, spec.start_timeout, spec.notes) == (END, 90, ())
    assert (spec.pull, spec.image_digest) == ("always", None)
    assert spec.limits == Limits(cpu_millis=500, memory_bytes=256 * 2**20)
    assert spec.ports == (Port(22), Port(80))
    assert (spec.access.http_port, spec.access.ssh_port, spec.access.ssh_user) == (80, 22, "student")
    assert spec.environment["COURSE"] == "net-lab"
    assert spec.environment["USER"] == "mario_rossi"
    assert spec.labels == identity.environment_labels(
        instance="test",
        reservation_id="1841",
        user=MARIO,
        resource=GPU_SERVER,
        template="lab",
        expires_at=END,
        access=spec.access,
        limits=spec.limits,
    )


def test_a_resource_that_no_template_serves_is_refused() -> None:
    refused = refusal(lambda: resolved("match: {type: VM}"))
    assert refused.code == "no_template"
    assert '"Linux container"' in refused.message
    refused = refusal(lambda: resolved("match: {type: VM}", resource=Resource(id="12")))
    assert "without a type" in refused.message


parameters = st.dictionaries(labels, st.sampled_from([*SAMPLE.values(), "1", "1Gi", "A=1"]) | st.text(max_size=30))
templates = st.sampled_from(
    [
        "",
        "runtime: process",
        "runtime: libvirt, image: Ubuntu 24.04, images: {allow: ['*']}",
        "overrides: [], on_disallowed: ignore",
        "limits: {cpu: 2, storage: 1Gi}, maximum: {memory: unlimited}, images: {allow: ['**']}",
        "images: {on_violation: substitute}",
        "host_ports: 1-65535, on_host_port: refuse, ports: ['22'], environment: {A: b}, labels: {x: y}",
    ]
)


@given(parameters, templates)
def test_whatever_people_type_resolves_within_bounds_or_is_refused(asked: dict[str, str], template: str) -> None:
    lab = catalog(template)
    spec = attempt(lambda: lab.resolve(reservation(asked)), Refused)
    if isinstance(spec, Refused):
        assert refusal(lambda: lab.resolve(reservation(asked))).message == checked(spec).message
        return
    bounds = lab.templates[0].bounds
    for chosen, bound in zip(
        (spec.limits.cpu_millis, spec.limits.memory_bytes, spec.limits.storage_bytes), bounds.values(), strict=True
    ):
        assert bound.maximum is None or (chosen is not None and bound.minimum <= chosen <= bound.maximum)
    assert spec.environment["RESERVATION_ID"] == "1841"
    assert len(spec.ports) <= 16
    assert spec == lab.resolve(reservation(asked))
    assert spec.spec_hash == lab.resolve(reservation(dict(reversed(asked.items())))).spec_hash


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", (1000, 512 * 2**20, None)),
        ("limits: {cpu: 2, memory: 4Gi, storage: 10Gi}", (2000, 4 * 2**30, 10 * 2**30)),
        ("minimum: {memory: 1Gi}", (1000, 2**30, None)),
        ("maximum: {cpu: 500m, memory: 128Mi}", (500, 128 * 2**20, None)),
        ("maximum: {cpu: 8, memory: unlimited, storage: unlimited}", (1000, 512 * 2**20, None)),
        ("limits: {cpu: unlimited, memory: unlimited}", (None, None, None)),
        ("limits: {cpu: 5m, memory: 1Mi}", (5, 2**20, None)),
    ],
)
def test_who_asks_for_nothing_gets_the_limits_of_the_template(template: str, expected: tuple[int | None, ...]) -> None:
    limits = resolved(template).limits
    assert (limits.cpu_millis, limits.memory_bytes, limits.storage_bytes) == expected


@pytest.mark.parametrize(
    ("template", "asked", "code"),
    [
        ("", {"cpu": "1001m"}, "limit_above_maximum"),
        ("", {"memory": "513Mi"}, "limit_above_maximum"),
        ("", {"memory": "512"}, "limit_below_minimum"),
        ("", {"cpu": "1m"}, "limit_below_minimum"),
        ("", {"disk": "1Gi"}, "override_not_allowed"),
        ("limits: {storage: 1Gi}", {"disk": "2Gi"}, "limit_above_maximum"),
        ("maximum: {cpu: 4}", {"cpu": "4001m"}, "limit_above_maximum"),
        ("minimum: {memory: 256Mi}", {"memory": "255Mi"}, "limit_below_minimum"),
        ("", {"cpu": "lots"}, "quantity_invalid"),
        ("", {"image": "redis"}, "image_not_allowed"),
        ("", {"image": "Redis"}, "image_invalid"),
        ("", {"ports": "x"}, "ports_invalid"),
        ("ports: ['81'], host_ports: 8080-8090", {"ports": ",".join(map(str, range(100, 116)))}, "ports_invalid"),
        ("on_host_port: refuse", {"ports": "8080:80"}, "host_port_not_allowed"),
        ("", {"env": "x"}, "environment_invalid"),
        ("", {"env": "LD_PRELOAD=/tmp/x.so"}, "environment_invalid"),
        ("overrides: [image]", {"cpu": "1"}, "override_not_allowed"),
        ("", {"cpu": "1", "cpus": "500m"}, "parameter_ambiguous"),
    ],
)
def test_policy_says_no(template: str, asked: dict[str, str], code: str) -> None:
    assert refusal(lambda: resolved(template, asked)).code == code


@pytest.mark.parametrize(
    ("template", "asked", "expected"),
    [
        ("", {"cpu": "1", "memory": "512Mi"}, (1000, 512 * 2**20)),
        ("", {"cpu": "10m", "memory": "6Mi"}, (10, 6 * 2**20)),
        ("maximum: {cpu: 4}", {"cpu": "4"}, (4000, 512 * 2**20)),
        ("maximum: {cpu: unlimited}", {"cpu": "1000"}, (1_000_000, 512 * 2**20)),
        ("limits: {memory: unlimited}", {"memory": "1Pi"}, (1000, 2**50)),
    ],
)
def test_what_lies_within_the_bounds_is_granted(
    template: str, asked: dict[str, str], expected: tuple[int, int]
) -> None:
    limits = resolved(template, asked).limits
    assert (limits.cpu_millis, limits.memory_bytes) == expected


def test_the_list_of_the_file_allows_images_and_a_templates_own_list_replaces_it() -> None:
    top = "images: {allow: [redis]}"
    assert catalog("", top=top).resolve(reservation({"image": "redis:7"})).image == "docker.io/library/redis:7"
    own = catalog("images: {allow: [python]}", top=top)
    assert own.resolve(reservation({"image": "python:3"})).image == "docker.io/library/python:3"
    assert refusal(lambda: own.resolve(reservation({"image": "redis:7"}))).code == "image_not_allowed"


def test_a_machine_template_does_not_share_the_containers_list() -> None:
    machines = catalog("runtime: libvirt, image: debian", top="images: {allow: ['**']}")
    assert refusal(lambda: machines.resolve(reservation({"image": "ubuntu"}))).code == "image_not_allowed"


def test_a_substituted_image_is_noted_for_the_user() -> None:
    spec = resolved("images: {on_violation: substitute}", {"image": "evil/nginx"})
    assert spec.image == "nginx:1.27"
    assert spec.notes == ('The image "evil/nginx" is not allowed here: the environment runs nginx:1.27 instead.',)


def test_what_a_template_lets_pass_unheard_is_noted_for_the_user() -> None:
    spec = resolved("overrides: [ports], on_disallowed: ignore", SAMPLE)
    assert spec.limits.cpu_millis == 1000
    assert spec.notes == (
        "Fixed for this resource, so what was asked for is ignored: cpu limit, environment, image, memory limit.",
    )


@pytest.mark.parametrize(
    ("allowed", "asked", "image"),
    [((), "nginx:stable", "nginx:stable"), (("nginx",), "nginx:1.27", "docker.io/library/nginx:1.27")],
)
def test_a_process_with_an_image_follows_the_rules_of_containers(
    allowed: tuple[str, ...], asked: str, image: str
) -> None:
    defaults = Defaults(runtime="process", image="nginx:stable", allowed_images=allowed)
    lab = Catalog.from_defaults(defaults, instance="test")
    assert lab.resolve(reservation({"image": asked})).image == image
    assert refusal(lambda: lab.resolve(reservation({"image": "evil/nginx:1.27"}))).code == "image_not_allowed"


def test_an_image_asked_of_a_process_without_one_makes_no_difference() -> None:
    lab = Catalog.from_defaults(Defaults(runtime="process", image=None), instance="test")
    spec = lab.resolve(reservation({"image": "whatever it says"}))
    assert len(spec.notes) == 1
    assert spec.spec_hash == lab.resolve(reservation()).spec_hash


def test_an_untagged_image_of_a_template_is_the_latest_and_not_every_one() -> None:
    assert resolved("image: nginx").image == "nginx:latest"
    assert resolved("runtime: libvirt, image: debian").image == "debian"


def test_a_templates_ports_stay_whatever_is_asked_for() -> None:
    spec = resolved("ports: ['22', '30000:8443']", {"ports": "8080:80"})
    assert spec.ports == (Port(22), Port(80), Port(8443, host=30000))


def test_a_host_port_is_honoured_inside_the_range() -> None:
    spec = resolved("host_ports: 30000-30999", {"ports": "30080:80, 8443:443"})
    assert spec.ports == (Port(80, host=30080), Port(443))


@pytest.mark.parametrize(
    ("template", "asked", "page"),
    [
        ("", "9000, 8888, 443, 8080", 8080),
        ("", "443, 80", 80),
        ("", "8888/udp, 9000", None),
        ("access: {http: 9000}", "80", 9000),
        ("access: {http: none}", "80", None),
    ],
)
def test_where_a_page_answers(template: str, asked: str, page: int | None) -> None:
    spec = resolved(template, {"ports": asked})
    assert spec.access.http_port == page
    assert page is None or page in {port.container for port in spec.ports}


def test_ports_named_as_access_are_published_listed_or_not() -> None:
    spec = resolved("access: {http: 8080, ssh: 22}, ports: [8080, 22/udp]")
    assert spec.ports == (Port(22), Port(22, protocol="udp"), Port(8080))


def test_users_variables_win_over_the_templates_and_ours_over_all() -> None:
    spec = resolved("environment: {A: template, B: ''}", {"env": "A=user,USER=root,USER_EMAIL=forged"})
    assert (spec.environment["A"], spec.environment["B"], spec.environment["USER"]) == ("user", "", "mario_rossi")
    sparse = resolved("", {"env": "USER_EMAIL=forged"}, user=User(id="u"))
    assert "USER_EMAIL" not in sparse.environment


def test_operators_may_set_what_users_may_not() -> None:
    assert resolved("environment: {PATH: /opt/bin}").environment["PATH"] == "/opt/bin"


def test_together_the_variables_stay_within_the_cap() -> None:
    own = ", ".join(f"A{n}: x" for n in range(40))
    asked = ",".join(f"B{n}=x" for n in range(40))
    assert refusal(lambda: resolved(f"environment: {{{own}}}", {"env": asked})).code == "environment_invalid"


@given(st.dictionaries(st.text(string.ascii_letters + "-/", min_size=1, max_size=12), st.text(max_size=8)))
def test_no_label_of_anybody_else_overrides_ours(extra: dict[str, str]) -> None:
    lab = catalog("")
    ours = lab.resolve(reservation()).labels
    # Past all checks: a template made by hand that claims our labels.
    template = lab.templates[0].model_copy(update={"labels": {**extra, **dict.fromkeys(ours, "forged")}})
    file = TemplateFile.model_construct(version=1, templates=(template,))
    forged = Catalog(file, instance="test").resolve(reservation()).labels
    assert {label: forged[label] for label in ours} == ours


def test_labels_of_the_template_are_kept() -> None:
    assert resolved("labels: {course: net-lab}").labels["course"] == "net-lab"


def test_a_duplicate_that_lacks_what_the_platform_looked_up_is_the_same_environment() -> None:
    full = resolved("", SAMPLE)
    sparse = resolved("", SAMPLE, user=User(id=MARIO.id), resource=replace(GPU_SERVER, name=None))
    assert sparse.spec_hash == full.spec_hash
    assert sparse.key == full.key


def test_a_later_end_is_not_another_environment() -> None:
    later = resolved("", SAMPLE, end=END + timedelta(hours=1))
    assert later.spec_hash == resolved("", SAMPLE).spec_hash
    assert later.environment != resolved("", SAMPLE).environment


@pytest.mark.parametrize("asked", [{"cpu": "600m"}, {"env": "A=1"}, {"ports": "81"}, {"image": "nginx:1.28"}])
def test_what_is_asked_for_makes_another_environment(asked: dict[str, str]) -> None:
    lab = catalog("images: {allow: [nginx]}")
    assert lab.resolve(reservation(asked)).spec_hash != lab.resolve(reservation()).spec_hash


def test_our_variables_are_in_every_environment() -> None:
    assert set(resolved().environment) == RESERVED_VARIABLES
