"""A replay puts the original record back, to the byte, once for each time it is asked for, and says what it did."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import typer

from consumer.cli import replay
from consumer.cli.console import Exit
from consumer.transport import publisher
from consumer.transport.deadletters import replay as put_back
from tests.cli.conftest import Invoke
from tests.cli.letters import STUB, letter, put
from tests.services import KafkaBroker
from tests.support.kafka import Headers, Kafka, Message, Names

HEADERS: Headers = (("traceparent", b"00-x"), ("x", b"1"), ("x", b"\xff"), ("empty", b""), ("null", None))


def contents(messages: Iterable[Message]) -> list[tuple[object, ...]]:
    return [(m.partition, m.key, m.value, m.headers) for m in messages]


def test_value_key_and_headers_come_back_to_the_byte_where_they_came_from(
    invoke: Invoke, topics: Kafka, names: Names
) -> None:
    records = [
        (b'{"a": 1}\r\n', b"1841"),
        (bytes(range(256)), b"\xff\x00"),
        (None, b"tombstone"),
        (b"", None),
    ]
    letters = [letter(names.inbound, value, key, headers=HEADERS, partition=3) for value, key in records]
    places = put(topics, names, *letters)
    done = invoke("dlq", "replay", "--yes", *places)
    assert done.exit_code == Exit.OK, done.stderr
    found = topics.read(names.inbound)
    assert contents(found) == [
        (
            3,
            key,
            value,
            (*HEADERS, ("moorage-replayed-from", f"{names.dead_letters}/{place.replace(':', '/')}".encode())),
        )
        for (value, key), place in zip(records, places, strict=True)
    ]
    assert done.stdout.splitlines() == [
        f"{place}  replayed  {names.inbound}/3/{number}" for number, place in enumerate(places)
    ]
    assert topics.count(names.dead_letters) == len(records)
    assert "4 replayed" in done.stderr
    assert "the dead letters stay" in done.stderr


def test_what_fails_again_and_is_replayed_again_names_its_last_dead_letter_only(
    invoke: Invoke, topics: Kafka, names: Names
) -> None:
    first = put(topics, names, letter(names.inbound, b"{", b"k", headers=HEADERS, lies_in=0))
    invoke("dlq", "replay", "--yes", *first)
    (replayed,) = topics.read(names.inbound)
    again = put(topics, names, letter(names.inbound, replayed.value, replayed.key, headers=replayed.headers, lies_in=0))
    assert json.loads(invoke("dlq", "list", "--json").stdout.splitlines()[-1])["replayedFrom"] == (
        f"{names.dead_letters}/0/0"
    )
    invoke("dlq", "replay", "--yes", *again)
    assert topics.read(names.inbound)[-1].headers == (
        *HEADERS,
        ("moorage-replayed-from", f"{names.dead_letters}/0/1".encode()),
    )


def test_where_the_partition_is_gone_the_key_decides(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (by_key,) = topics.publish(names.inbound, [Message(b"x", b"1841")])
    place = put(topics, names, letter(names.inbound, b"{", b"1841", partition=17))
    dry = invoke("dlq", "replay", *place, "--dry-run")
    assert dry.stdout == f"{place[0]}  would replay  {names.inbound}/by key\n"
    assert topics.count(names.inbound) == 1
    invoke("dlq", "replay", *place, "--yes")
    assert [m.partition for m in topics.read(names.inbound)] == [by_key.partition] * 2


def test_a_dry_run_changes_nothing(invoke: Invoke, topics: Kafka, names: Names) -> None:
    places = put(topics, names, letter(names.inbound, b"{", b"a"), letter(names.inbound, STUB, b"b"))
    done = invoke("dlq", "replay", "--all", "--dry-run", "--json")
    told = {
        f"{t['partition']}:{t['offset']}": (t["outcome"], t["to"]) for t in map(json.loads, done.stdout.splitlines())
    }
    assert told == {places[0]: ("would_replay", f"{names.inbound}/2"), places[1]: ("refused", None)}
    assert topics.count(names.inbound) == 0


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_nobodys_markup_counts(invoke: Invoke, topics: Kafka, names: Names) -> None:
    put(topics, names, letter("[/red]\x1b[2J", b"{", b"k"))
    done = invoke("dlq", "replay", "--all", "--dry-run")
    assert "has no topic [/red]" in done.stdout
    assert "\x1b[2J" not in done.stdout


def test_what_cannot_be_replayed_is_told_and_the_rest_is_replayed(invoke: Invoke, topics: Kafka, names: Names) -> None:
    put(
        topics,
        names,
        letter(names.inbound, STUB, b"k", lies_in=0),
        Message(b"no dead letter", b"k", partition=0),
        letter("no-such-topic", b"{", b"k", lies_in=0),
        letter(names.state, b"{}", b"k", lies_in=0),
        letter(names.inbound, b"{", b"k", lies_in=0),
    )
    done = invoke("dlq", "replay", "--all", "--yes")
    assert done.exit_code == Exit.FAILED
    lines = done.stdout.splitlines()
    assert lines[0].startswith("0:0  refused  The original record was too large")
    assert lines[1].startswith("0:1  refused  This record is not a dead letter")
    assert lines[2].startswith("0:2  failed  Kafka at ")
    assert "has no topic no-such-topic" in lines[2]
    assert lines[3].startswith(f"0:3  refused  It says it came from {names.state}")
    assert lines[4] == f"0:4  replayed  {names.inbound}/2/0"
    assert "3 refused, 1 failed, 1 replayed" in done.stderr
    assert (topics.count(names.inbound), topics.partitions("no-such-topic")) == (1, set())


def test_a_place_without_a_letter_does_not_stop_the_others(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (place,) = put(topics, names, letter(names.inbound, b"{", b"k", lies_in=0))
    done = invoke("dlq", "replay", "--yes", "3:99", place, place)
    assert done.exit_code == Exit.NOT_FOUND
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["not found", "replayed"]


def test_all_letters_of_one_reservation_are_replayed_and_no_others(invoke: Invoke, topics: Kafka, names: Names) -> None:
    put(topics, names, letter(names.inbound, b"1", b"1841"), letter(names.inbound, b"2", b"1842"))
    assert invoke("dlq", "replay", "--reservation", "1841", "--yes").exit_code == Exit.OK
    assert [m.value for m in topics.read(names.inbound)] == [b"1"]
    assert invoke("dlq", "replay", "--reservation", "9", "--yes").exit_code == Exit.NOT_FOUND
    assert invoke("dlq", "replay", "--all", "--reservation", "9", "--yes").exit_code == Exit.NOT_FOUND


def test_nothing_to_replay_is_no_failure(invoke: Invoke, topics: Kafka) -> None:
    done = invoke("dlq", "replay", "--all", "--yes")
    assert (done.exit_code, done.stdout) == (Exit.OK, "")


@pytest.mark.parametrize("arguments", [[], ["0:0", "--all"], ["0:0", "--reservation", "1"], ["0-0"]])
def test_one_way_of_choosing_is_needed(invoke: Invoke, arguments: list[str]) -> None:
    assert invoke("dlq", "replay", "--yes", *arguments).exit_code == Exit.USAGE


def test_without_a_terminal_it_is_not_done_unless_told(invoke: Invoke, topics: Kafka, names: Names) -> None:
    put(topics, names, letter(names.inbound, b"{", b"k"))
    done = invoke("dlq", "replay", "--all", stdin="y\n")
    assert done.exit_code == Exit.USAGE
    assert "--yes" in done.stderr
    assert topics.count(names.inbound) == 0


@pytest.mark.parametrize(("answer", "replayed"), [("y\n", 2), ("n\n", 0), ("\n", 0)])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_on_a_terminal_it_asks(
    invoke: Invoke,
    topics: Kafka,
    names: Names,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    replayed: int,
    all_of_them: bool,
) -> None:
    monkeypatch.setattr(replay, "_somebody_there", lambda: True)
    places = put(topics, names, letter(names.inbound, b"{", b"k"), letter(names.inbound, b"{", b"l"))
    done = invoke("dlq", "replay", *(["--all"] if all_of_them else places), stdin=answer)
    assert "Replay 2 dead letters?" in done.stderr
    assert done.exit_code == Exit.OK
    assert topics.count(names.inbound) == replayed


def test_what_comes_after_the_question_is_not_part_of_the_answer(
    invoke: Invoke, topics: Kafka, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(topics, names, letter(names.inbound, b"asked", b"k", lies_in=1))
    monkeypatch.setattr(replay, "_somebody_there", lambda: True)

    def answer(*_: object, **__: object) -> bool:
        put(
            topics,
            names,
            letter(names.inbound, b"late", b"k", lies_in=1),
            letter(names.inbound, b"late", b"k", lies_in=2),
        )
        return True

    monkeypatch.setattr(typer, "confirm", answer)
    invoke("dlq", "replay", "--all")
    assert [m.value for m in topics.read(names.inbound)] == [b"asked"]


@pytest.mark.kafka
@pytest.mark.timeout(180)
def test_a_kafka_that_dies_half_way_ends_it_with_what_was_done(
    invoke: Invoke, names: Names, start_kafka: Callable[..., KafkaBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = start_kafka()
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    tried = 0

    async def and_then_kill(*arguments: Any) -> tuple[str, int, int]:
        nonlocal tried
        tried += 1
        if tried == 2:
            monkeypatch.setattr(publisher, "PATIENCE", 1.0)
            broker.kill()
        return await put_back(*arguments)

    monkeypatch.setattr(replay, "put_back", and_then_kill)
    with Kafka(broker.bootstrap_servers) as topics:
        topics.create(*names.topics, partitions=1)
        put(topics, names, *(letter(names.inbound, b"{", b"k", partition=0) for _ in range(3)))
        done = invoke("dlq", "replay", "--all", "--yes")
    assert done.exit_code == Exit.FAILED
    assert [line.split("  ")[:2] for line in done.stdout.splitlines()] == [["0:0", "replayed"], ["0:1", "failed"]]
    assert "Kafka no longer answers; the dead letters after this one were not tried." in done.stderr
    assert "1 replayed, 1 failed" in done.stderr
