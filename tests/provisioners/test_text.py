"""What programs and engines say becomes fit for a message: short, printable, without paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.provisioners.text import last_words, plain, scrubbed, shortened, without_paths


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("a\r\n\tb\x00\x07c", "a b c"),
        ("grün ☃", "grün ☃"),
        ("half an escape \x1b", "half an escape"),
        ("\u202egnirts", "gnirts"),
    ],
)
def test_plain_text_has_no_controls(said: str, told: str) -> None:
    assert plain(said) == told


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_shortened_text_is_printable_and_fits(text: str, limit: int) -> None:
    assert len(shortened(text, limit)) <= limit
    assert shortened(text, limit).isprintable()


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_last_words_are_printable_and_fit(text: str, limit: int) -> None:
    assert len(last_words(text, limit)) <= limit
    assert last_words(text, limit).isprintable()


def test_the_last_words_are_the_last_lines() -> None:
    assert last_words("first\nsecond\n\nthird\n", 16) == "second | third"
    assert last_words("") == ""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("open /var/lib/docker/x: denied", "open …: denied"),
        ("mkdir '/a/b'", "mkdir '…'"),
        ("image registry.example.org/team/x:1", "image registry.example.org/team/x:1"),
        ("1/2 and a/b", "1/2 and a/b"),
    ],
)
def test_host_paths_are_hidden_and_image_names_are_not(said: str, told: str) -> None:
    assert without_paths(said) == told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("http://127.0.0.1:8888/lab?token=abc123def", "http://127.0.0.1:8888/lab?token=…"),
        ("password: hunter2 was wrong", "password: … was wrong"),
        ("DB_PASSWORD=hunter2, next", "DB_PASSWORD=…, next"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
        ("cannot reach postgres://lab:hunter2@db/x", "cannot reach postgres://lab:…@db/x"),
        ('{"api_key": "xyz1"}', '{"api_key": "…"}'),
        ("listening on http://127.0.0.1:8888/lab", "listening on http://127.0.0.1:8888/lab"),
        ("tokenizer: loaded", "tokenizer: loaded"),
        ("the value s3cr3t leaks, v0 does not", "the value … leaks, v0 does not"),
    ],
)
def test_what_looks_like_a_secret_is_not_told(said: str, told: str) -> None:
    assert scrubbed(said, {"JUPYTER_TOKEN": "s3cr3t", "VERSION": "v0", "SHORT_KEY": "v0"}) == told


@given(st.text(max_size=300))
def test_scrubbing_takes_any_text(text: str) -> None:
    assert scrubbed(scrubbed(text, {}), {}) == scrubbed(text, {})
