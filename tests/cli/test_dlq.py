"""Dead letters are listed and shown as they are, whatever is in them."""

import json
from datetime import timedelta

import pytest

from consumer.cli.console import Exit
from tests.cli.conftest import Invoke
from tests.cli.letters import FAILED_AT, letter, put
from tests.support.kafka import Kafka, Message, Names
from tests.support.payloads import Booking


def test_the_list_says_where_when_why_and_from_where(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (place,) = put(topics, names, letter(names.inbound, b"{" * 2000, b"k", error_message="[red]No\n\x1b[2J."))
    done = invoke("dlq", "list")
    assert done.stdout == (f"{place}  2026-03-02 08:00:01Z  {names.inbound}/2/7  not_json  k  2.0 KiB  [red]No .\n")
    assert (done.exit_code, done.stderr) == (Exit.OK, "")


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_it_is_a_table_without_anybodys_markup(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (place,) = put(topics, names, letter(names.inbound, b"{", b"[red]", error_message="\x1b[2J[/]"))
    for command in (["list"], ["show", place]):
        done = invoke("dlq", *command)
        assert "[red]" in done.stdout
        assert "\x1b[2J" not in done.stdout


def test_the_list_in_json(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (place,) = put(topics, names, letter(names.inbound, b"{", b"\xff", headers=[("moorage-replayed-from", b"d/0/1")]))
    assert json.loads(invoke("dlq", "list", "--json").stdout) == {
        "partition": int(place.split(":")[0]),
        "offset": 0,
        "failedAt": "2026-03-02T08:00:01+00:00",
        "origin": {"topic": names.inbound, "partition": 2, "offset": 7},
        "code": "not_json",
        "message": "The record is not JSON.",
        "key": {"base64": "/w=="},
        "bytes": 1,
        "instance": "lab",
        "replayedFrom": "d/0/1",
        "replayable": True,
    }


def test_the_newest_are_listed_in_order_of_time_across_partitions(invoke: Invoke, topics: Kafka, names: Names) -> None:
    minutes = [3, 0, 4, 1, 2]
    put(
        topics,
        names,
        *(
            letter(names.inbound, b"{", str(minute).encode(), failed_at=FAILED_AT + timedelta(minutes=minute))
            for minute in minutes
        ),
    )
    done = invoke("dlq", "list", "--limit", 3)
    assert [line.split("  ")[4] for line in done.stdout.splitlines()] == ["2", "3", "4"]
    assert "the newest 3 of 5" in done.stderr


def test_letters_of_a_reservation_are_found_by_key_and_by_content(invoke: Invoke, topics: Kafka, names: Names) -> None:
    places = put(
        topics,
        names,
        letter(names.inbound, b"{", b"1841"),
        letter(names.inbound, Booking("1841").start_event(), b"other", error_code="attempts_used_up"),
        letter(names.inbound, b"1841", b"other"),
    )
    done = invoke("dlq", "list", "--reservation", "1841")
    assert {line.split("  ")[0] for line in done.stdout.splitlines()} == set(places[:2])


def test_no_dead_letters_is_good_news(invoke: Invoke, topics: Kafka) -> None:
    done = invoke("dlq", "list")
    assert (done.exit_code, done.stdout) == (Exit.OK, "")
    assert "no dead letters" in done.stderr


def test_a_record_that_is_no_dead_letter_is_listed_as_such(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (place,) = put(topics, names, Message(b"hello", b"k"))
    assert "  not_a_dead_letter  k  5 B  This record is not a dead letter" in invoke("dlq", "list").stdout
    assert "replayable: no: This record is not a dead letter" in invoke("dlq", "show", place).stdout


def test_one_is_shown_with_its_headers_and_its_payload(invoke: Invoke, topics: Kafka, names: Names) -> None:
    payload = b'{\n "a": "\x1b[2J[red]"\n'
    (place,) = put(topics, names, letter(names.inbound, payload, b"k", headers=[("x", b"1"), ("x", None)]))
    done = invoke("dlq", "show", place)
    assert f"came from: {names.inbound}/2/7\n" in done.stdout
    assert "header x: -\n" in done.stdout
    assert "moorage-dlt" not in done.stdout
    assert done.stdout.endswith('\n\n{\n "a": "\\x1b[2J[red]"\n\n')


def test_headers_of_the_same_name_are_all_shown(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (place,) = put(topics, names, letter(names.inbound, b"{", headers=[("x", b"1"), ("x", b"2")]))
    assert "header x: 1\nheader x: 2\n" in invoke("dlq", "show", place).stdout


def test_a_binary_payload_is_shown_in_hex_and_written_raw(invoke: Invoke, topics: Kafka, names: Names) -> None:
    payload = bytes(range(256)) * 2
    (place,) = put(topics, names, letter(names.inbound, payload))
    assert "000000f0  f0 f1 f2" in invoke("dlq", "show", place).stdout
    assert invoke("dlq", "show", place, "--raw").stdout_bytes == payload
    assert "payload" in json.loads(invoke("dlq", "show", place, "--json").stdout)


def test_a_long_payload_is_cut_and_says_so(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (place,) = put(topics, names, letter(names.inbound, b"x" * 70_000))
    done = invoke("dlq", "show", place)
    assert done.stdout.count("x") < 66_000
    assert "--raw writes all of it" in done.stderr


def test_a_tombstone_has_no_payload(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (place,) = put(topics, names, letter(names.inbound, None, b"k"))
    assert "tombstone" in invoke("dlq", "show", place).stderr
    assert json.loads(invoke("dlq", "show", place, "--json").stdout)["payload"] is None


def test_nothing_at_that_place_is_told_by_the_exit_code(invoke: Invoke, topics: Kafka, names: Names) -> None:
    put(topics, names, letter(names.inbound, b"{", lies_in=1))
    for place in ("1:1", "0:0", "99:0"):
        assert invoke("dlq", "show", place).exit_code == Exit.NOT_FOUND


def test_a_place_is_two_numbers(invoke: Invoke) -> None:
    for place in ("1", "1:", "1:-1", "x:y"):
        assert invoke("dlq", "show", "--", place).exit_code == Exit.USAGE


def test_more_letters_than_one_fetch_brings_are_all_seen(invoke: Invoke, topics: Kafka, names: Names) -> None:
    topics.publish(names.dead_letters, (letter(names.inbound, b"x" * 10_000, str(n).encode()) for n in range(700)))
    done = invoke("dlq", "list", "--limit", 1000)
    assert len({line.split("  ")[4] for line in done.stdout.splitlines()}) == 700
