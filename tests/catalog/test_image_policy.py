"""Allow-lists: what an operator writes is what users get, and look-alikes stay out."""

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from consumer.catalog.image_policy import ImagePolicy, MachineImagePolicy, OnViolation, parse_pattern
from consumer.catalog.images import ImageReference, parse_image
from tests.catalog.reservations import attempt, refusal
from tests.catalog.test_images import SHA, references


def policy(*allow: str, on_violation: OnViolation = "reject") -> ImagePolicy:
    return ImagePolicy(tuple(map(parse_pattern, allow)), on_violation)


def allows(pattern: str, image: str) -> bool:
    return parse_pattern(pattern).matches(parse_image(image))


@pytest.mark.parametrize(
    ("pattern", "images"),
    [
        ("nginx", ["nginx", "nginx:1.27", "docker.io/nginx", "index.docker.io/library/nginx:1", f"nginx@{SHA}"]),
        ("nginx:*", ["nginx", "nginx:1.27", f"nginx:1@{SHA}"]),
        ("docker.io/library/nginx:1.27", ["nginx:1.27", "library/nginx:1.27"]),
        ("nginx:1.*", ["nginx:1.27", "nginx:1.27-alpine"]),
        ("nginx:1.2?", ["nginx:1.27"]),
        ("python:*-slim", ["python:3.12-slim"]),
        (f"nginx@{SHA}", [f"nginx@{SHA}", f"nginx:evil@{SHA}"]),
        ("nginx@*", [f"nginx@{SHA}", f"nginx:1@{SHA}"]),
        ("bitnami/*", ["bitnami/redis", "docker.io/bitnami/redis:7"]),
        ("*", ["nginx", "library/redis"]),
        ("*/*", ["nginx", "bitnami/redis"]),
        ("docker.io/**", ["nginx", "bitnami/redis", "docker.io/a/b/c"]),
        ("registry.local/**", ["registry.local/a", "registry.local/a/b/c:1", f"registry.local/a@{SHA}"]),
        ("registry.local/**/app", ["registry.local/app", "registry.local/a/b/app"]),
        ("registry.local/a/**/b/*", ["registry.local/a/b/c", "registry.local/a/b/b/b/c"]),
        ("localhost:5000/a/b:tag", ["localhost:5000/a/b:tag"]),
        ("localhost:*/a", ["localhost:5000/a"]),
        ("*.example.org/**", ["eu.example.org/a/b"]),
        ("[::1]:5000/a", ["[::1]:5000/a"]),
        ("**", ["nginx", "evil.example/a/b/c:1", f"localhost:5000/a@{SHA}"]),
    ],
)
def test_a_pattern_allows(pattern: str, images: list[str]) -> None:
    assert [image for image in images if not allows(pattern, image)] == []


@pytest.mark.parametrize(
    ("pattern", "images"),
    [
        (
            "nginx",
            ["evil/nginx", "docker.io.evil.com/library/nginx", "localhost/nginx", "nginx-evil", "library/nginx/x"],
        ),
        ("nginx", ["docker.io:443/library/nginx", "registry.local/nginx", "registry.local/library/nginx"]),
        ("nginx:1.27", ["nginx", "nginx:1.28", f"nginx@{SHA}", f"nginx:1.27@{SHA}", "nginx:1.27.1"]),
        ("nginx:1.*", ["nginx:11", "nginx:2.1.0", f"nginx:1.1@{SHA}"]),
        (f"nginx@{SHA}", ["nginx", f"redis@{SHA}", "nginx@sha256:" + "0b" * 32]),
        ("nginx@*", ["nginx", "nginx:1.27"]),
        ("bitnami/*", ["bitnami/a/b", "nginx", "evil.com/bitnami/redis"]),
        ("*", ["bitnami/redis", "registry.local/x"]),
        ("docker.io/**", ["registry.local/x", "docker.io.evil.com/a"]),
        ("registry.local/**", ["registry.local:5000/a", "registry.local.evil.com/a", "evil.com/registry.local/a"]),
        ("registry.local/team/**", ["registry.local/team", "registry.local/teammate/a", "registry.local/a/team/b"]),
        ("registry.local/**/app", ["registry.local/app/x", "registry.local/my-app"]),
        (
            "*.example.org/**",
            ["example.org/a", "a.b.example.org/a", "evil.com/x.example.org/a", "a.example.org:5000/a"],
        ),
        ("registry.*/app", ["registry.evil.com/app"]),
        ("localhost:*/a", ["localhost/a"]),
        ("[::1]:5000/a", ["[::2]:5000/a", "[::1]/a"]),
    ],
)
def test_a_pattern_does_not_allow(pattern: str, images: list[str]) -> None:
    assert [image for image in images if allows(pattern, image)] == []


@given(references())
def test_an_image_written_out_as_a_pattern_allows_itself(reference: ImageReference) -> None:
    written = str(
        ImageReference(reference.domain, reference.path, None if reference.digest else reference.tag, reference.digest)
    )
    assert parse_pattern(written).matches(reference)


@given(references(), references())
def test_an_exact_pattern_allows_nothing_else(one: ImageReference, other: ImageReference) -> None:
    written = str(ImageReference(one.domain, one.path, None if one.digest else one.tag, one.digest))
    assert not parse_pattern(written).matches(other) or (one.domain, one.path) == (other.domain, other.path)


@pytest.mark.parametrize(
    "text",
    [
        "", "Nginx", "https://nginx", "a**b", "a/**b", "x:y:z", "**.example.org/a", "a b", "nginx:", "nginx@sha256:1",
        f"nginx:1@{SHA}", "a//b", "/a", "a_b.c/d/é", "registry.local/", "ho st.a/b",
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_an_error_that_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|lower-case|digest"):
        parse_pattern(text)


@given(st.text(max_size=40) | st.text("ab.:/@*?[]-", max_size=40))
def test_whatever_an_operator_writes_is_a_pattern_or_a_value_error(text: str) -> None:
    outcome = attempt(lambda: parse_pattern(text).matches(parse_image("nginx")), ValueError)
    assert isinstance(outcome, bool) or str(outcome).isprintable()


def path_matches(pattern: list[str], path: list[str]) -> bool:
    """The meaning of ** by the shortest definition there is, however long it takes."""
    if not pattern or not path:
        return pattern == path or (not path and pattern[0] == "**" and path_matches(pattern[1:], path))
    if pattern[0] == "**":
        return path_matches(pattern[1:], path) or path_matches(pattern, path[1:])
    return pattern[0] in ("*", path[0]) and path_matches(pattern[1:], path[1:])


@given(
    st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=6),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=7),
)
def test_two_stars_are_any_number_of_segments(pattern: list[str], path: list[str]) -> None:
    assume(pattern[-1] != "**")
    assert allows("r.io/" + "/".join(pattern), "r.io/" + "/".join(path)) == path_matches(pattern, path)


def test_a_registry_alone_is_no_pattern() -> None:
    for text in ("registry.local", "localhost", "registry.local:2"):
        with pytest.raises(ValueError, match=r"did you mean \"(registry.local|localhost)/\*\*\"\?"):
            parse_pattern(text)


def test_stars_cost_no_exponential_time() -> None:
    pattern = parse_pattern("r.io/" + "**/a/" * 20 + "z")
    stars = parse_pattern("r.io/" + "*a" * 30 + "z")
    deep = parse_image("r.io/" + "a/" * 110 + "b")
    long = parse_image("r.io/" + "a" * 230)
    began = time.process_time()
    assert not pattern.matches(deep)
    assert not stars.matches(long)
    assert time.process_time() - began < 1


def test_an_allowed_image_is_run_under_its_full_name() -> None:
    assert policy("nginx").decide("nginx:1.27", "redis").image == "docker.io/library/nginx:1.27"


def test_the_templates_own_image_needs_no_permission() -> None:
    choice = policy().decide("docker.io/library/redis:latest", "redis")
    assert (choice.image, choice.note) == ("redis:latest", None)


def test_the_templates_own_image_by_another_tag_does() -> None:
    assert refusal(lambda: policy().decide("redis:7", "redis")).code == "image_not_allowed"


def test_a_refusal_lists_what_may_be_asked_for() -> None:
    message = refusal(lambda: policy("nginx", "python:3.*").decide("evil/nginx", "redis")).message
    assert message == 'The image "evil/nginx" is not allowed here. Ask for one of: redis:latest, nginx, python:3.*.'


def test_a_refusal_stays_short_however_long_the_list_and_the_name_are() -> None:
    many = policy(*(f"registry.example.org/some/long/path/{'x' * 20}/image-{n}:1.*" for n in range(200)))
    refused = refusal(lambda: many.decide("evil/" + "e" * 200, "redis"))
    assert "more" in refused.message
    assert "e" * 80 not in refused.message


def test_a_substitute_is_announced() -> None:
    choice = policy("nginx", on_violation="substitute").decide("evil/nginx", "redis")
    assert choice.image == "redis:latest"
    assert choice.note == 'The image "evil/nginx" is not allowed here: the environment runs redis:latest instead.'


def test_what_is_no_image_name_is_not_substituted() -> None:
    asked = refusal(lambda: policy(on_violation="substitute").decide("Not An Image", "redis"))
    assert asked.code == "image_invalid"


def test_machine_images_are_plain_names() -> None:
    machines = MachineImagePolicy(("Ubuntu *", "courses/*"))
    assert machines.decide("Ubuntu 24.04", "Debian 13").image == "Ubuntu 24.04"
    assert machines.decide("courses/lab.qcow2", "Debian 13").image == "courses/lab.qcow2"
    assert machines.decide("Debian 13", "Debian 13").image == "Debian 13"
    assert refusal(lambda: machines.decide("courses/a/lab.qcow2", "Debian 13")).code == "image_not_allowed"
    assert refusal(lambda: machines.decide("ubuntu 24.04", "Debian 13")).code == "image_not_allowed"


@pytest.mark.parametrize("name", ["/etc/passwd", "courses/../../etc", "a//b", "-x", "a\nb", "a" * 300, "é"])
def test_a_machine_image_cannot_climb_out_of_its_directory(name: str) -> None:
    assert refusal(lambda: MachineImagePolicy(("**", "*")).decide(name, "own")).code == "image_invalid"
