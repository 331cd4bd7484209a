"""Files reach the reservation topic byte for byte, under the reservation's key, or not at all."""

import json
from pathlib import Path

import pytest

from consumer.cli.console import Exit
from consumer.cli.publish import split
from tests.cli.conftest import Invoke
from tests.support.kafka import Kafka, Names

SAMPLES = Path(__file__).parents[2] / "schemas" / "samples"
START = (SAMPLES / "event_start.json").read_bytes().strip()
END = (SAMPLES / "event_end.json").read_bytes().strip()
PRETTY = json.dumps(json.loads(START), indent=2).encode()


def test_a_document_is_one_payload_however_many_lines_it_has() -> None:
    assert split(PRETTY + b"\n") == [(1, PRETTY)]
    assert split(START) == [(1, START)]
    assert split(b"\n\n" + PRETTY + b"\r\n") == [(3, b"\n\n" + PRETTY)]


def test_json_lines_are_a_payload_each() -> None:
    assert split(START + b"\r\n\n" + END) == [(1, START), (3, END)]


def test_a_broken_line_among_json_lines_is_a_payload_by_itself() -> None:
    assert split(b"{\n" + END + b"\n") == [(1, b"{"), (2, END)]
    assert split(START + b"\n{\n") == [(1, START), (2, b"{")]


def test_a_broken_document_stays_whole() -> None:
    assert split(PRETTY[:-2]) == [(1, PRETTY[:-2])]


@pytest.mark.parametrize("nothing", [b"", b"\n", b"\r\n"])
def test_an_empty_file_is_one_empty_payload(nothing: bytes) -> None:
    assert split(nothing) == [(1, b"")]


def test_a_dry_run_says_what_would_be_published_without_kafka(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    file = tmp_path / "two.jsonl"
    file.write_bytes(START + b"\n" + END + b"\n")
    done = invoke("publish", file, "--dry-run")
    assert done.exit_code == Exit.OK
    assert done.stdout == (
        f"reservation-events  EVENT_START  1841  {file}:1\nreservation-events  EVENT_END  1841  {file}:2\n"
    )
    assert "2 records would be published to reservation-events" in done.stderr


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_nobodys_markup_counts(invoke: Invoke) -> None:
    assert "  [/red]:b:  " in invoke("publish", "-", "--dry-run", "--key", "[/red]:b:", stdin=START).stdout


def test_a_batch_of_several_reservations_has_no_key_and_says_so(invoke: Invoke) -> None:
    done = invoke("publish", SAMPLES / "batch_start.json", "--dry-run", "--json")
    assert json.loads(done.stdout)["key"] is None
    assert "a batch of 2 reservations" in done.stderr
    keyed = invoke("publish", SAMPLES / "batch_start.json", "--dry-run", "--json", "--key", "room-4")
    assert json.loads(keyed.stdout)["key"] == "room-4"
    assert "batch" not in keyed.stderr


@pytest.mark.parametrize("sample", ["ping.json", "resource_deleted.json"])
def test_what_is_about_no_reservation_has_no_key(invoke: Invoke, sample: str) -> None:
    assert json.loads(invoke("publish", SAMPLES / sample, "--dry-run", "--json").stdout)["key"] is None


def test_one_unreadable_payload_stops_all_and_is_named(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "[red].jsonl"
    file.write_bytes(START + b'\n{"eventType":"EVENT_NAP"}\n{\n')
    done = invoke("publish", file)
    assert (done.exit_code, done.stdout) == (Exit.FAILED, "")
    assert f"{file}:2: unknown_event_type:" in done.stderr
    assert f"{file}:3: not_json:" in done.stderr
    assert "nothing was published" in done.stderr


def test_only_the_first_of_many_mistakes_are_shown(invoke: Invoke) -> None:
    done = invoke("publish", "-", stdin=b"{}\n" * 25)
    assert done.stderr.count("error -:") == 20
    assert "and 5 more" in done.stderr


def test_a_payload_that_the_service_would_refuse_for_its_size_is_refused_here(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_MAX_RECORD_BYTES", "1024")
    assert "-:1: too_large" in invoke("publish", "-", stdin=START + b" " * 1024).stderr


def test_a_file_that_is_not_there_is_a_usage_error(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("publish", tmp_path / "nothing.json")
    assert done.exit_code == Exit.USAGE
    assert "No such file" in done.stderr


def test_payloads_arrive_byte_for_byte_under_their_reservations(
    invoke: Invoke, topics: Kafka, names: Names, tmp_path: Path
) -> None:
    pretty = tmp_path / "pretty.json"
    pretty.write_bytes(PRETTY + b"\n")
    done = invoke("publish", pretty, "-", stdin=START + b"\n" + END + b"\r\n")
    assert (done.exit_code, "3 records published" in done.stderr) == (Exit.OK, True)
    found = topics.read(names.inbound)
    assert [(m.key, m.value, m.headers) for m in found] == [(b"1841", value, ()) for value in (PRETTY, START, END)]
    places = [f"{names.inbound}/{m.partition}/{m.offset}" for m in found]
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == places


def test_force_publishes_what_cannot_be_read_without_a_key(invoke: Invoke, topics: Kafka, names: Names) -> None:
    assert invoke("publish", "-", "--force", stdin=b"\xff\x00{").exit_code == Exit.OK
    assert [(m.key, m.value) for m in topics.read(names.inbound)] == [(None, b"\xff\x00{")]


def test_another_topic_and_key_can_be_named(invoke: Invoke, topics: Kafka, names: Names) -> None:
    done = invoke("publish", "-", "--topic", names.outbound, "--key", "k", "--json", stdin=START)
    told = json.loads(done.stdout)
    (message,) = topics.read(names.outbound)
    assert (told["topic"], told["partition"], told["offset"]) == (names.outbound, message.partition, message.offset)
    assert message.key == b"k"


def test_a_topic_that_is_not_there_is_named_and_not_created(invoke: Invoke, topics: Kafka) -> None:
    done = invoke("publish", "-", "--topic", "no-such-topic", stdin=START)
    assert done.exit_code == Exit.FAILED
    assert "has no topic no-such-topic" in done.stderr
    assert "0 of 1 published" in done.stderr
    assert topics.partitions("no-such-topic") == set()


def test_a_record_that_the_broker_refuses_ends_the_command_with_how_far_it_came(
    invoke: Invoke, topics: Kafka, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_MAX_RECORD_BYTES", str(4 << 20))
    large = START[:-1] + b" " * (2 << 20) + b"}"
    done = invoke("publish", "-", stdin=START + b"\n" + large + b"\n" + END)
    assert done.exit_code == Exit.FAILED
    assert "error -:2: Not published" in done.stderr
    assert "1 of 3 published" in done.stderr
    assert topics.count(names.inbound) == 1
