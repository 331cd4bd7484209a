"""Watching shows what goes out, what was asked for and no more, and ends as asked."""

import io
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from consumer.cli import outbound
from consumer.cli.console import Exit
from consumer.cli.outbound import LiveTable, ways_in
from consumer.cli.watch import Wanted
from consumer.transport.reader import Message as Read
from schemas.cloudevents import NOTIFICATION_TYPE, PROGRESS_TYPE, message_headers, result_type
from schemas.examples import example_progress
from schemas.outbound import Access, AccessPort, Notification, NotificationType, Outcome, Reason, Result
from tests.cli.conftest import Invoke
from tests.support.kafka import Kafka, Message, Names

NOW = datetime(2026, 3, 2, 7, 55, 8, tzinfo=UTC)
ACCESS = Access(
    host="lab", ports=(AccessPort(port=80, host_port=32772),), url="http://lab:32772/", ssh="ssh -p 32771 u@lab"
)


def result(reservation: str, outcome: Outcome, **changes: Any) -> Message:
    facts: dict[str, Any] = {
        "id": f"{reservation}-{outcome}",
        "outcome": outcome,
        "event_id": reservation,
        "event_type": "EVENT_START",
        "revision": "1",
        "instance": "lab",
        "user_id": "5f0c",
        "username": "mario_rossi",
        "resource_id": "12",
        "resource_name": "GPU Server 1",
        "start": NOW,
        "end": NOW,
        "runtime": "docker",
        "occurred_at": NOW,
    }
    body = Result(**facts | changes)
    return Message(body.to_bytes(), reservation.encode(), _headers(reservation, body.id, result_type(outcome)))


def notification(reservation: str, text: str) -> Message:
    body = Notification(
        user_id="5f0c",
        message=text,
        type=NotificationType.SUCCESS,
        event_id=reservation,
        resource_id="12",
        event_type="EVENT_START",
    )
    return Message(body.to_bytes(), reservation.encode(), _headers(reservation, "n", NOTIFICATION_TYPE))


def progress(reservation: str) -> Message:
    body = example_progress().model_copy(update={"event_id": reservation, "user_id": "5f0c"})
    return Message(body.to_bytes(), reservation.encode(), _headers(reservation, "p", PROGRESS_TYPE))


def read(message: Message) -> Read:
    return Read("outbound", 0, 0, 0, message.key, message.value, message.headers)


def _headers(reservation: str, message_id: str, kind: str) -> tuple[tuple[str, bytes], ...]:
    return tuple(message_headers(id=message_id, type=kind, source="/moorage/lab", subject=reservation, time=NOW))


def test_results_and_notifications_are_a_line_each(invoke: Invoke, topics: Kafka, names: Names) -> None:
    topics.publish(
        names.outbound,
        [
            result("1841", Outcome.PROVISIONED, access=ACCESS),
            notification("1841", "[red]It\x1b[2J\nis ready."),
            result("1841", Outcome.FAILED, reason=Reason(code="image_refused", message="No.")),
            progress("1841"),
        ],
    )
    done = invoke("watch", "--from-beginning", "--count", 4)
    assert done.exit_code == Exit.OK
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "2026-03-02 07:55:08Z  1841  provisioned  mario_rossi  GPU Server 1  docker  "
        "http://lab:32772/, ssh -p 32771 u@lab  -"
    )
    assert lines[1].endswith("Z  1841  notification  5f0c  SUCCESS: [red]It is ready.")
    assert lines[2].endswith("1841  failed  mario_rossi  GPU Server 1  docker  -  image_refused: No.")
    assert lines[3].endswith("Z  1841  progress  5f0c  pulling: nginx:1.27: 3 of 7 layers, 21 of 67 MB")


def test_json_has_headers_and_body(invoke: Invoke, topics: Kafka, names: Names) -> None:
    (sent,) = topics.publish(names.outbound, [result("1841", Outcome.RELEASED)])
    told = json.loads(invoke("watch", "--from-beginning", "--count", 1, "--json").stdout)
    assert told["body"] == json.loads(sent.value or b"")
    assert told["headers"]["ce_type"] == "io.moorage.result.released.v1"
    assert (told["key"], told["partition"], told["offset"]) == ("1841", sent.partition, sent.offset)


def test_json_has_what_is_not_json_too(invoke: Invoke, topics: Kafka, names: Names) -> None:
    bodies = [b'{"a":"\\ud800"}', b"\xff", None]
    topics.publish(names.outbound, [Message(body, b"k") for body in bodies])
    lines = invoke("watch", "--from-beginning", "--count", 3, "--json").stdout.splitlines()
    assert [(told["body"], told.get("raw")) for told in map(json.loads, lines)] == [
        (None, '{"a":"\\ud800"}'),
        (None, {"base64": "/w=="}),
        (None, None),
    ]
    plain = invoke("watch", "--from-beginning", "--count", 3).stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in plain] == ["k  unknown  not readable"] * 3


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (Wanted(), ["1-provisioned", "2-provisioned", "2-n", "4-n", "3-n"]),
        (Wanted(reservation="2"), ["2-provisioned", "2-n"]),
        (Wanted(reservation="2", results_only=True), ["2-provisioned"]),
        (Wanted(reservation="3"), ["3-n"]),
        (Wanted(reservation="4"), ["4-n"]),
        (Wanted(reservation="4", results_only=True), []),
        (Wanted(user="anna"), ["2-provisioned"]),
        (Wanted(user="5f0c"), ["1-provisioned", "2-n", "4-n"]),
        (Wanted(user="nobody"), []),
    ],
)
def test_only_what_was_asked_for_passes(wanted: Wanted, shown: list[str]) -> None:
    messages = [
        result("1", Outcome.PROVISIONED),
        result("2", Outcome.PROVISIONED, username="anna", user_id="77"),
        notification("2", "Ready."),
        progress("4"),
        Message(b"not ours", b"3"),
    ]
    passed = [message for message in messages if wanted.lets_pass(read(message))]
    assert [
        f"{(m.key or b'').decode()}-{'provisioned' if b'outcome' in m.value else 'n'}" for m in passed if m.value
    ] == shown


def test_it_ends_when_as_many_came_as_were_asked_for(invoke: Invoke, topics: Kafka, names: Names) -> None:
    topics.publish(names.outbound, [result(reservation, Outcome.PROVISIONED) for reservation in "12223"])
    done = invoke("watch", "--from-beginning", "--reservation", "2", "--count", 2, "--timeout", 30, "--json")
    assert [json.loads(line)["key"] for line in done.stdout.splitlines()] == ["2", "2"]
    assert done.exit_code == Exit.OK


def test_the_exit_code_tells_whether_anything_came_in_time(invoke: Invoke, topics: Kafka, names: Names) -> None:
    topics.publish(names.outbound, [result("1", Outcome.PROVISIONED)])
    watch = ("watch", "--from-beginning", "--timeout")
    assert invoke(*watch, 10).exit_code == Exit.OK
    assert invoke(*watch, 10, "--count", 2).exit_code == Exit.UNFINISHED
    assert invoke(*watch, 3, "--reservation", "2").exit_code == Exit.NOT_FOUND


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_it_is_a_live_table(invoke: Invoke, topics: Kafka, names: Names) -> None:
    topics.publish(names.outbound, [result("1841", Outcome.PROVISIONED, access=ACCESS)])
    done = invoke("watch", "--from-beginning", "--count", 1)
    assert "http://lab:32772/" in done.stdout
    assert "1 messages, 1 reservations" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_only_news_and_a_signal_ends_it_in_order(topics: Kafka, names: Names, number: signal.Signals) -> None:
    topics.publish(names.outbound, [result("old", Outcome.PROVISIONED)])
    with subprocess.Popen(
        [sys.executable, "-m", "consumer", "watch", "--json"],
        env=os.environ.copy(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "watching" in process.stderr.readline()
        topics.publish(names.outbound, [result("new", Outcome.PROVISIONED)])
        assert json.loads(process.stdout.readline())["key"] == "new"
        process.send_signal(number)
        assert process.wait(40) == Exit.OK
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_the_table_has_the_latest_result_of_each_reservation_newest_on_top() -> None:
    table = LiveTable()
    for message in [
        result("1", Outcome.PROVISIONED, access=ACCESS),
        result("2", Outcome.PROVISIONED, resource_name="[bold]\x1b[2J"),
        notification("2", "Ready."),
        result("1", Outcome.RELEASED),
    ]:
        table.show(read(message))
    text = _on_a_terminal(table)
    assert text.index("released") < text.index("provisioned")
    assert "[bold]" in text
    assert "\x1b[2J" not in text
    assert "4 messages, 2 reservations" in text


def test_the_table_forgets_the_oldest_reservations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "_ROWS", 2)
    table = LiveTable()
    for reservation in ("first", "second", "third"):
        message = result(reservation, Outcome.PROVISIONED)
        table.show(read(message))
    text = _on_a_terminal(table)
    assert [name in text for name in ("first", "second", "third")] == [False, True, True]


def test_without_url_and_ssh_the_ports_are_the_way_in() -> None:
    ports = (AccessPort(port=80, host_port=8080), AccessPort(port=53, host_port=5353, protocol="udp"))
    assert ways_in(Access(host="lab", ports=ports)) == "lab:8080, lab:5353/udp"
    assert ways_in(Access(host="lab")) is None


def _on_a_terminal(table: LiveTable) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    console.print(table.table())
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text
