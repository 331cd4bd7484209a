"""Names and labels: safe everywhere, never shared by two reservations."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from consumer.catalog.environment import AccessHints, Limits
from consumer.catalog.identity import KEY, LONGEST_NAME, environment_labels, environment_name, reservation_key, slug
from schemas.events import Resource, User
from tests.catalog.reservations import END, GPU_SERVER, MARIO

NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
texts = st.text(max_size=40)


@given(texts, st.none() | texts, texts, st.none() | texts, texts, texts)
@example("u", "-" * 40, "r", "\ud800", "\ud800", "")
@example("ß", "ﬃﬃﬃﬃﬃﬃﬃ", "İ", "…", "", "")
def test_a_name_is_safe_wherever_names_are_needed(
    user_id: str, user: str | None, resource_id: str, resource: str | None, reservation: str, instance: str
) -> None:
    name = environment_name(instance, reservation, User(user_id, user), Resource(resource_id, resource))
    assert len(name) <= LONGEST_NAME
    assert NAME.fullmatch(name)


@given(st.tuples(texts, texts), st.tuples(texts, texts))
@example(("a", "b"), ("ab", ""))
@example(("a\xff", "b"), ("a", "\xffb"))
def test_two_reservations_never_share_a_name_or_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    if one != other:
        assert reservation_key(*one) != reservation_key(*other)
        assert environment_name(*one, MARIO, GPU_SERVER) != environment_name(*other, MARIO, GPU_SERVER)


@given(texts, texts)
def test_an_environment_is_found_by_its_reservation_alone(instance: str, reservation: str) -> None:
    labels = environment_labels(
        instance=instance,
        reservation_id=reservation,
        user=MARIO,
        resource=GPU_SERVER,
        template="lab",
        expires_at=END,
        access=AccessHints(http_port=80),
        limits=Limits(cpu_millis=500),
    )
    assert labels[KEY] == reservation_key(instance, reservation)
    assert re.fullmatch(r"[0-9a-f]{32}", labels[KEY])
    assert labels["moorage/http-port"] == "80"
    assert labels["moorage/cpu-millis"] == "500"
    assert "moorage/ssh-port" not in labels
    assert "moorage/memory-bytes" not in labels


def test_a_slug_is_what_remains_readable() -> None:
    assert [slug(text) for text in ("Mario Rossi", "Hu1/0/1", "Zoë", "日本", "a" * 20, "-a-")] == [
        "mario-rossi", "hu1-0-1", "zoe", "x", "a" * 12, "a",
    ]  # fmt: skip
