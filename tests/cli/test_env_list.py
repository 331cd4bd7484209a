"""What is remembered and what runs, side by side; either may be missing, and where they disagree it is marked."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.catalog.identity import reservation_key
from consumer.cli.console import Exit
from consumer.cli.env import look
from consumer.handling.errors import Unavailable
from consumer.provisioners.memory import MemoryEngine, MemoryProvisioner
from schemas.events import Resource, User
from schemas.outbound import Reason
from schemas.state import Phase
from tests.cli.conftest import Invoke, Runtimes
from tests.cli.environments import END, HOUR, NOW, run, state
from tests.support.kafka import Kafka, Message, Names


def listed(output: str) -> dict[str, Any]:
    """Reservations by what is marked or shown of them."""
    rows = [json.loads(line) for line in output.splitlines()]
    return {row["reservation"]: row["mark"] or row["status"] for row in rows}


def reservations(lines: Iterable[str]) -> list[str]:
    return [line.split("  ")[0] for line in lines]


def test_environments_are_joined_with_what_is_remembered(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    name = run(runtimes["memory"], "1841")
    topics.publish(names.state, [state("1841", end=END), state("1841", end=END + HOUR)])
    done = invoke("env", "list")
    until = f"{END + HOUR:%Y-%m-%d %H:%M:%SZ} (2h "
    head, _, tail = done.stdout.partition(until)
    assert head == f"1841  mario_rossi  GPU Server 1  memory  {name}  ACTIVE  running  "
    assert tail.endswith("m left)  127.0.0.1:8080\n")
    assert (done.exit_code, done.stderr) == (Exit.OK, "")
    told = json.loads(invoke("env", "list", "--json").stdout)
    assert (told["phase"], told["userId"], told["until"]) == ("ACTIVE", "5f0c", (END + HOUR).isoformat())
    assert told["access"]["ports"] == [{"port": 80, "hostPort": 8080, "protocol": "tcp"}]
    assert 2 * 3600 < told["remainingSeconds"] <= 3 * 3600
    assert told["overdue"] is False


def test_what_disagrees_is_marked(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes) -> None:
    engine = MemoryEngine()
    runtimes["memory"] = MemoryProvisioner(engine)
    for each in ("fits", "orphan", "stopped", "released", "moved"):
        run(runtimes["memory"], each)
    engine.stop(reservation_key("default", "stopped"))
    runtimes["other"] = MemoryProvisioner()
    topics.publish(
        names.state,
        [
            state("fits"),
            state("stopped"),
            state("gone"),
            state("released", phase=Phase.RELEASED),
            state("moved", runtime="other"),
            state("waits", phase=Phase.PENDING, runtime=None),
        ],
    )
    done = invoke("env", "list", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(
        (row["reservation"], row["runtime"], row["mark"] or row["status"]) for row in rows if row["runtime"]
    ) == [
        ("fits", "memory", "running"),
        ("gone", "memory", "not running"),
        ("moved", "memory", "left over"),
        ("moved", "other", "not running"),
        ("orphan", "memory", "orphan"),
        ("released", "memory", "left over"),
        ("stopped", "memory", "stopped"),
    ]
    assert listed(done.stdout)["waits"] is None
    assert done.exit_code == Exit.OK


def test_runtimes_are_left_alone_when_told_so(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes) -> None:
    runtimes["memory"] = RuntimeError("was asked")
    topics.publish(names.state, [state("1841")])
    done = invoke("env", "list", "--no-runtimes", "--json")
    assert listed(done.stdout) == {"1841": None}
    assert done.exit_code == Exit.OK


def test_a_runtime_that_no_template_uses_any_more_is_looked_at_too(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    topics.publish(
        names.state, [state("1841", runtime="retired"), state("1842", runtime="long gone", phase=Phase.FAILED)]
    )
    done = invoke("env", "list", "--json")
    assert listed(done.stdout) == {"1841": "unknown", "1842": None}
    assert done.stderr == "error retired: There is no retired.\n"
    assert done.exit_code == Exit.FAILED


def test_what_is_over_is_listed_when_asked_for(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes) -> None:
    now = datetime.now(UTC)
    over = {"start": now - 3 * HOUR, "end": now - HOUR}
    topics.publish(
        names.state,
        [
            state("overdue", **over),
            state("released", phase=Phase.RELEASED),
            state("failed", phase=Phase.FAILED),
            state("failed long ago", phase=Phase.FAILED, **over),
            state("never came", phase=Phase.PENDING, **over),
            Message(None, b"forgotten"),
        ],
    )
    assert reservations(invoke("env", "list").stdout.splitlines()) == ["overdue", "failed"]
    everything = invoke("env", "list", "--all").stdout.splitlines()
    assert reservations(everything) == ["failed long ago", "never came", "overdue", "failed", "released"]
    assert [" (overdue 1h 0m)  " in line for line in everything] == [False, False, True, False, False]
    assert reservations(invoke("env", "list", "--phase", "released").stdout.splitlines()) == ["released"]


def test_it_is_told_why_what_failed_did_and_how_much_time_what_ended_had(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    refused = Reason(code="image_not_allowed", message="The image is not allowed here.")
    topics.publish(
        names.state,
        [state("failed", phase=Phase.FAILED, reason=refused), state("released", phase=Phase.RELEASED)],
    )
    failed, released = (line.split("  ") for line in invoke("env", "list", "--all").stdout.splitlines())
    assert failed[5:7] == ["FAILED", "image_not_allowed"]
    assert failed[7].endswith(" left)")
    assert released[5:8] == ["RELEASED", "-", f"{END:%Y-%m-%d %H:%M:%SZ}"]  # of what has ended, no time is left
    assert f"until: {END:%Y-%m-%d %H:%M:%SZ}\n" in invoke("env", "show", "released").stdout
    reasons = [json.loads(line)["reason"] for line in invoke("env", "list", "--all", "--json").stdout.splitlines()]
    assert reasons == ["image_not_allowed", None]


def test_what_runs_beyond_its_end_is_overdue(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes) -> None:
    run(runtimes["memory"], "1841")
    topics.publish(names.state, [state("1841", end=datetime.now(UTC) - timedelta(minutes=12))])
    assert " (overdue 12m)  " in invoke("env", "list").stdout
    told = json.loads(invoke("env", "list", "--json").stdout)
    assert (told["overdue"], told["remainingSeconds"] <= -12 * 60) == (True, True)


def test_of_states_in_two_partitions_the_newer_counts(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    run(runtimes["memory"], "1841")
    newer = state("1841", user=User("77", "anna"), changed_at=NOW + timedelta(seconds=1), partition=0)
    topics.publish(names.state, [newer, state("1841", partition=1)])
    assert reservations(invoke("env", "list", "--user", "anna").stdout.splitlines()) == ["1841"]


def test_a_state_that_cannot_be_read_is_told_and_makes_no_orphan(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    run(runtimes["memory"], "1841")
    stub = b'{"tooLarge":true,"bytes":9}'
    topics.publish(names.state, [Message(b'{"version":2}', b"1841"), Message(stub, b"1842"), state("1843")])
    done = invoke("env", "list", "--json")
    assert listed(done.stdout) == {"1841": "state unreadable", "1843": "not running"}
    assert "error The state of 1841 cannot be read" in done.stderr
    assert done.exit_code == Exit.FAILED


@pytest.mark.usefixtures("no_kafka")
def test_without_kafka_environments_are_listed_with_an_error(invoke: Invoke, runtimes: Runtimes) -> None:
    run(runtimes["memory"], "1841")
    done = invoke("env", "list")
    assert done.stdout.startswith("1841  mario_rossi  12  memory  r-")
    assert "error No Kafka broker answers at 127.0.0.1:1" in done.stderr
    assert "What is remembered of reservations is missing here." in done.stderr
    assert done.exit_code == Exit.FAILED
    assert listed(invoke("env", "list", "--json").stdout) == {"1841": "running"}
    assert invoke("env", "list", "--no-runtimes").stdout == ""


def test_a_missing_state_topic_is_an_error_as_well(
    invoke: Invoke, topics: Kafka, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_STATE_TOPIC", "no-such-topic")
    run(runtimes["memory"], "1841")
    done = invoke("env", "list")
    assert (done.exit_code, done.stdout.count("\n")) == (Exit.FAILED, 1)
    assert "has no topic no-such-topic" in done.stderr


def test_a_runtime_that_does_not_answer_hides_nothing_else(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    engine = MemoryEngine()
    engine.fail("list", Unavailable("The engine is [off]."))
    runtimes["broken"] = MemoryProvisioner(engine)
    run(runtimes["memory"], "1841")
    topics.publish(names.state, [state("1841"), state("1842", runtime="broken")])
    done = invoke("env", "list", "--json")
    assert listed(done.stdout) == {"1841": "running", "1842": "unknown"}
    assert done.exit_code == Exit.FAILED
    assert done.stderr == "error broken does not answer: The engine is [off].\n"


@pytest.mark.usefixtures("no_kafka")
def test_a_runtime_that_hangs_is_given_up(invoke: Invoke, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "_PATIENCE", 0.2)
    runtimes["slow"] = MemoryProvisioner(MemoryEngine(latency=30.0))
    done = invoke("env", "list")
    assert done.exit_code == Exit.FAILED
    assert "slow does not answer: silent for 0.2 s" in done.stderr


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_it_is_a_table_without_anybodys_markup(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    evil = "[red]\x1b[2J\u202e"
    run(runtimes["memory"], "1841", User("77", evil))
    topics.publish(names.state, [state(evil, user=User(evil), resource=Resource(evil))])
    for options in ([], ["--json"]):
        done = invoke("env", "list", *options)
        assert "[red]" in done.stdout
        assert not {"\x1b[2J", "\u202e"} & {done.stdout, *done.stdout.split("[red]")}
        assert "\u202e" not in done.stdout
        assert "\x1b[2J" not in done.stdout


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--user", "anna"], ["2"]),
        (["--user", "5f0c"], ["1", "3"]),
        (["--user", "mario_rossi"], ["1", "3"]),
        (["--resource", "12"], ["1", "3"]),
        (["--resource", "GPU Server 1"], ["1", "3"]),
        (["--runtime", "memory"], ["1", "3"]),
        (["--runtime", "memory@gpu-1"], ["3"]),
        (["--phase", "pending"], ["2"]),
        (["--user", "anna", "--runtime", "memory"], []),
    ],
)
def test_only_what_was_asked_for_is_listed(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, options: list[str], found: list[str]
) -> None:
    run(runtimes["memory"], "1")
    runtimes["memory@gpu-1"] = MemoryProvisioner(runtime="memory@gpu-1")
    run(runtimes["memory@gpu-1"], "3")
    other = {"user": User("77", "anna"), "resource": Resource("13"), "phase": Phase.PENDING, "runtime": None}
    topics.publish(names.state, [state("1"), state("2", **other), state("3", runtime="memory@gpu-1")])
    done = invoke("env", "list", *options)
    assert reservations(done.stdout.splitlines()) == found
    assert ("nothing of the kind; --all" in done.stderr) is not bool(found)
