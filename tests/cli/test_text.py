"""What others wrote cannot move the cursor, pose as markup or break a line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.cli.console import print_json
from consumer.cli.text import cell, exact, hex_dump, moment_of, readable, shown, size


@given(st.text())
def test_a_cell_is_one_line_of_printable_characters(text: str) -> None:
    assert cell(text).plain.isprintable()


def test_markup_is_only_text() -> None:
    assert cell("[red]x[/]").plain == "[red]x[/]"


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_is_a_dash(nothing: str | None) -> None:
    assert cell(nothing).plain == "-"


@given(st.binary())
def test_a_payload_is_shown_without_control_characters(data: bytes) -> None:
    assert all(char.isprintable() or char in "\n\t" for char in shown(data))


def test_control_characters_of_a_payload_are_escaped() -> None:
    assert shown(b'{"a":\n\t"\x1b[31m"}\r\n') == '{"a":\n\t"\\x1b[31m"}\\r\n'
    assert shown("\u202e\u009b".encode()) == "\\u202e\\x9b"


def test_what_is_no_text_is_shown_in_hex() -> None:
    assert shown(b"\xff\x00AB") == hex_dump(b"\xff\x00AB")
    assert hex_dump(bytes(range(60, 77))) == (
        "00000000  3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 4a 4b  <=>?@ABCDEFGHIJK\n"
        "00000010  4c                                               L"
    )


def test_bytes_become_text_where_they_are_text() -> None:
    assert [readable(each) for each in (None, b"1841", b"\xff")] == [None, "1841", "0xff"]
    assert [exact(each) for each in (None, b"1841", b"\xff")] == [None, "1841", {"base64": "/w=="}]


def test_a_timestamp_that_no_calendar_has_is_none() -> None:
    assert [moment_of(each) for each in (-1, 2**62)] == [None, None]


def test_sizes_are_in_bytes_until_they_are_large() -> None:
    assert [size(each) for each in (1023, 1536)] == ["1023 B", "1.5 KiB"]


@pytest.mark.parametrize(
    "text",
    [
        "\x00\x1b[2J\x7f",
        "\u009b31m",
        "\u202ereversed\u2066",
        "line\u2028end",
        "\U000e0041tag",
        "\ud800",
        'a"\\b',
        "Grüße",
    ],
)
def test_json_is_one_printable_line_that_says_exactly_what_was_there(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_json({text: [text]})
    written = capsys.readouterr().out
    assert written.removesuffix("\n").isprintable()
    assert json.loads(written) == {text: [text]}


def test_json_leaves_readable_what_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    print_json("Grüße – 你好 🐳")
    assert capsys.readouterr().out == '"Grüße – 你好 🐳"\n'
