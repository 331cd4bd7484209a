"""An image reference is read as Docker reads it, and nothing passes for what it is not."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.catalog.errors import Refused
from consumer.catalog.images import ImageReference, parse_image, tagged
from tests.catalog.reservations import attempt, checked, refusal

SHA = "sha256:" + "0a" * 32

components = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
domains = st.from_regex(
    r"(localhost|[a-z0-9]{1,8}(\.[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?){1,3}|\[::[0-9a-f]{1,4}\])(:[1-9][0-9]{0,3})?",
    fullmatch=True,
) | st.just("docker.io")
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@st.composite
def references(draw: st.DrawFn) -> ImageReference:
    domain, path = draw(domains), "/".join(draw(st.lists(components, min_size=1, max_size=4)))
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    tag, digest = draw(st.none() | tags), draw(st.none() | st.just(SHA))
    return ImageReference(domain, path, tag if tag or digest else "latest", digest)


@given(references())
def test_a_reference_written_out_reads_back_the_same(reference: ImageReference) -> None:
    assert parse_image(str(reference)) == reference


@given(st.text(max_size=80) | st.text("abAB.:/@-_*0[]\n ", max_size=80))
@example("a" * 100_000)
@example("a-" * 200)
@example("//")
@example("\ud800")
def test_whatever_is_typed_is_a_reference_that_reads_back_or_refused(text: str) -> None:
    outcome = attempt(lambda: parse_image(text), Refused)
    if isinstance(outcome, Refused):
        assert checked(outcome).code == "image_invalid"
    else:
        assert parse_image(str(outcome)) == outcome


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("library/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b:tag", "localhost:5000/a/b:tag"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ("[::1]:5000/app:2", "[::1]:5000/app:2"),
        ("ghcr.io/org/team/app:v1.2_rc-3", "ghcr.io/org/team/app:v1.2_rc-3"),
        (f"nginx@{SHA}", f"docker.io/library/nginx@{SHA}"),
        (f"nginx:1.27@{SHA}", f"docker.io/library/nginx:1.27@{SHA}"),
        ("nginx:Latest", "docker.io/library/nginx:Latest"),
    ],
)
def test_short_forms_mean_what_they_mean_to_docker(text: str, meaning: str) -> None:
    assert str(parse_image(text)) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "nginx/", "/nginx", "a//b", "nginx:", "nginx@", "nginx:1:2", ":1", "nginx\n", " nginx", "nginx :1",
        "Nginx", "EVIL/nginx", "Docker.io/library/nginx", "LOCALHOST/nginx", "docker.io./library/nginx",
        "-evil.example/nginx", "a_b.example/nginx", "..:80/x", "registry:0/x", "registry:70000/x", "registry:/x",
        "nginx:-1", "nginx:" + "a" * 129, "a" * 256, "a..b", "a___b", "-a", "a-", "../a", "a/../b", "user@host/x",
        "nginx@sha256:12", f"nginx@{SHA.upper()}", f"nginx@{SHA}0", "nginx@md5:" + "0" * 32, "0a" * 32,
        "https://registry.example/nginx", "nginx;rm", "nginx$x", "пginx", "\u0430lpine", "nginx\u200b", "ｎginx",
        "nginx:1\u0662", "nginx\x00", "nginx\\x",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    assert refusal(lambda: parse_image(text)).code == "image_invalid"


def test_the_usual_slips_are_named() -> None:
    assert "lower-case" in refusal(lambda: parse_image("Nginx")).message
    assert "leave out" in refusal(lambda: parse_image("https://nginx")).message
    assert "host name" in refusal(lambda: parse_image("a_b.c/nginx")).message
    assert "tag" in refusal(lambda: parse_image("nginx:!")).message
    assert "digest" in refusal(lambda: parse_image("nginx@sha256:1")).message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", "nginx:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("nginx:1", "nginx:1"),
        (f"a@{SHA}", f"a@{SHA}"),
    ],
)
def test_an_untagged_image_never_means_every_tag(text: str, expected: str) -> None:
    assert tagged(text) == expected
