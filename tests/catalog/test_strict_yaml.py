"""YAML is taken at its word: text stays text, and nothing is larger than it looks."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.catalog.strictyaml import Document, YamlError, read_yaml
from tests.catalog.reservations import attempt


@pytest.mark.parametrize("text", ["0.1", "22:22", "no", "012", "1e3", "2026-03-02", "0x10", "yes", "1_000", "<<", "="])
def test_a_scalar_is_the_text_that_was_written(text: str) -> None:
    assert read_yaml(f"key: {text}").value == {"key": text}


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_only_what_is_plainly_nothing_is_none(text: str) -> None:
    assert read_yaml(f"key: {text}").value == {"key": None}
    assert read_yaml(f"key: '{text}'").value == {"key": text}


def test_every_part_knows_its_line() -> None:
    document = read_yaml("# head\na:\n  - b: 1\n    c: [2,\n      3]\n")
    assert document.value == {"a": [{"b": "1", "c": ["2", "3"]}]}
    assert document.line_of(("a",)) == 2
    assert document.line_of(("a", 0, "c")) == 4
    assert document.line_of(("a", 0, "c", 1)) == 5
    assert document.line_of(("a", 0, "missing", "deeper")) == 3
    assert read_yaml("").line_of(("a",)) is None


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: 1\nb: 2\na: 3", 3, '"a" appears twice'),
        ("a:\n  b: 1\n  'b': 2", 3, '"b" appears twice'),
        ("a: &x 1", 1, "anchors"),
        ("a: 1\nb: *a", 2, "anchors"),
        ("- **", 1, "put the text in quotes"),
        ("- *.example.org/**", 1, "put the text in quotes"),
        ("a: !!python/object/apply:os.system [id]", 1, "tags"),
        ("a: !env HOME", 1, "tags"),
        ("a: !!str 1", 1, "tags"),
        ("? [a, b]\n: c", 1, "key is not plain text"),
        ("a: 1\n b: 2", 2, "mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("a: [1", 1, "expected ','"),
        ("\n" + "[" * 30, 2, "20 levels"),
        ('a: "\\ud800"', 1, "no program can be given"),
        ('"\\0": a', 1, "no program can be given"),
        ('a: "\\UFFFFFFFF"', None, "does not allow"),
        ("a: \x00", None, "does not allow"),
        ("a: " + "x" * 300_000, None, "256 KiB"),
    ],
)
def test_what_is_not_read_is_named_with_its_line(text: str, line: int | None, why: str) -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert why in str(caught.value)
    assert caught.value.line == line


@given(st.text(max_size=80) | st.text("ab:-?[]{}&*!|>'\"%@`#, \n\\U0", max_size=80))
@example("%YAML 1." + "9" * 5000 + "\n--- a")
@example('"\\UFFFFFFFF"')
@example("\ud800")
@example("\ufeff")
def test_whatever_is_in_the_file_is_read_or_a_yaml_error(text: str) -> None:
    outcome = attempt(lambda: read_yaml(text), YamlError)
    assert isinstance(outcome, Document) or str(outcome)


def test_a_small_file_cannot_become_a_large_document() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 8)}]\n" for n in range(9)
    )
    with pytest.raises(YamlError, match="anchors"):
        read_yaml(bomb)


@pytest.mark.parametrize("pattern", ["[", "{a: ", "- ", "? ", "!", "'", "# \n"])
def test_no_file_takes_long_to_be_refused(pattern: str) -> None:
    began = time.process_time()
    attempt(lambda: read_yaml(pattern * (200_000 // len(pattern))), YamlError)
    assert time.process_time() - began < 5
