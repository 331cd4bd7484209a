"""Everything known of one reservation, whoever knows it, and nothing of any other."""

import json
from datetime import timedelta
from typing import Any

import pytest

from consumer.cli.console import Exit
from consumer.handling.errors import Unavailable
from consumer.provisioners.memory import MemoryEngine, MemoryProvisioner
from schemas.cloudevents import NOTIFICATION_TYPE, message_headers, result_type
from schemas.examples import example_kubectl
from schemas.outbound import Access, Outcome, Reason, Result
from schemas.state import Phase
from tests.cli.conftest import Invoke, Runtimes
from tests.cli.environments import END, NOW, RESOURCE, USER, run, state
from tests.support.kafka import Kafka, Message, Names

WHY = Reason(code="image_not_allowed", message="The image is not allowed.")


def result(reservation: str, outcome: Outcome, **changes: Any) -> Message:
    facts: dict[str, Any] = {
        "id": "1",
        "outcome": outcome,
        "event_id": reservation,
        "event_type": "EVENT_START",
        "revision": "1",
        "instance": "default",
        "user_id": USER.id,
        "resource_id": RESOURCE.id,
        "start": NOW,
        "end": END,
        "occurred_at": NOW,
    }
    headers = message_headers(id="1", type=result_type(outcome), source="/x", subject=reservation, time=NOW)
    return Message(Result(**facts | changes).to_bytes(), reservation.encode(), tuple(headers))


def test_all_there_is_is_shown(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes) -> None:
    name = run(runtimes["memory"], "1841")
    topics.publish(
        names.state,
        [state("1841", title="Lab 3", parameters={"image": "nginx"}, booking_version=NOW, reason=WHY, partition=3)],
    )
    topics.publish(names.outbound, [result("1841", Outcome.FAILED, reason=WHY), result("1842", Outcome.RELEASED)])
    topics.publish(names.outbound, [Message(b"{", b"1841", (("ce_type", NOTIFICATION_TYPE.encode()),))])
    done = invoke("env", "show", "1841")
    assert (done.exit_code, done.stderr) == (Exit.OK, "")
    lines = done.stdout.splitlines()
    for expected in (
        "reservation: 1841",
        "phase: ACTIVE",
        "title: Lab 3",
        "user: mario_rossi (5f0c)",
        "resource: GPU Server 1 (12)",
        "resource type: Shell",
        "site: Turin",
        "parameter image: nginx",
        f"booking version: {NOW.isoformat()}",
        "reason: image_not_allowed: The image is not allowed.",
        "memory status: running",
        f"memory name: {name}",
        "memory access: 127.0.0.1:8080",
        f"result: {NOW:%Y-%m-%d %H:%M:%SZ} EVENT_START failed image_not_allowed: The image is not allowed.",
    ):
        assert expected in lines
    assert [line for line in lines if line.startswith(("result:", "look here:"))] == [lines[-1]]

    told = json.loads(invoke("env", "show", "1841", "--json").stdout)
    assert (told["reservation"], told["partition"], told["complete"], told["marks"]) == ("1841", 3, True, [])
    assert told["state"]["user"]["sshPublicKey"] == USER.ssh_public_key
    assert [each["status"] for each in told["environments"]] == ["running"]
    assert [each["outcome"] for each in told["results"]] == ["failed"]


def test_lines_for_kubectl_are_shown_as_they_were_told(invoke: Invoke, topics: Kafka, names: Names) -> None:
    kubectl = example_kubectl()
    topics.publish(names.state, [state("1841", access=Access(host="x.labs.svc", kubectl=kubectl))])
    lines = invoke("env", "show", "1841", "--no-runtimes").stdout.splitlines()
    told = [line.removeprefix("kubectl: ") for line in lines if line.startswith("kubectl: ")]
    assert told == [kubectl.logs, kubectl.exec, *kubectl.port_forward]


def test_of_its_results_the_last_are_shown(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes) -> None:
    topics.publish(names.state, [state("1841", phase=Phase.RELEASED)])
    outcomes = [Outcome.SKIPPED, Outcome.PROVISIONED, Outcome.UPDATED, Outcome.RELEASED]
    for outcome in outcomes:
        topics.publish(names.outbound, [result("1841", outcome)])
    for options, shown in ((["--last", "2"], outcomes[2:]), ([], outcomes), (["--last", "0"], [])):
        told = json.loads(invoke("env", "show", "1841", "--json", *options).stdout)
        assert [each["outcome"] for each in told["results"]] == shown


def test_an_environment_that_nobody_remembers_is_shown_as_what_it_is(
    invoke: Invoke, topics: Kafka, runtimes: Runtimes
) -> None:
    run(runtimes["memory"], "1841")
    done = invoke("env", "show", "1841")
    assert "look here: orphan" in done.stdout.splitlines()
    assert done.exit_code == Exit.OK


def test_what_should_run_and_does_not_is_marked(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    topics.publish(names.state, [state("1841", end=NOW - timedelta(days=2, hours=3))])
    lines = invoke("env", "show", "1841").stdout.splitlines()
    assert "look here: not running" in lines
    assert any(line.startswith("until: ") and line.endswith(" (overdue 2d 3h)") for line in lines)
    assert "look here" not in invoke("env", "show", "1841", "--no-runtimes").stdout


def test_what_nobody_knows_is_not_found(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes) -> None:
    topics.publish(names.state, [state("1842")])
    done = invoke("env", "show", "1841")
    assert (done.exit_code, done.stdout) == (Exit.NOT_FOUND, "")
    assert done.stderr == "error Nothing is known of 1841; `moorage env list --all` shows what there is.\n"


@pytest.mark.usefixtures("no_kafka")
def test_without_kafka_the_runtimes_still_tell(invoke: Invoke, runtimes: Runtimes) -> None:
    run(runtimes["memory"], "1841")
    done = invoke("env", "show", "1841")
    assert "memory status: running" in done.stdout.splitlines()
    assert done.stderr.count("No Kafka broker answers") == 1
    assert done.exit_code == Exit.FAILED
    unknown = invoke("env", "show", "1842")
    assert (unknown.exit_code, unknown.stdout) == (Exit.FAILED, "")
    assert "Nothing is known" not in unknown.stderr


def test_a_runtime_that_does_not_answer_hides_nothing_else(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    engine = MemoryEngine()
    engine.fail("find", Unavailable("The engine is off."))
    runtimes["memory"] = MemoryProvisioner(engine)
    topics.publish(names.state, [state("1841")])
    done = invoke("env", "show", "1841")
    assert "phase: ACTIVE" in done.stdout.splitlines()
    assert "look here: unknown" in done.stdout.splitlines()
    assert done.stderr == "error memory does not answer: The engine is off.\n"
    assert done.exit_code == Exit.FAILED


def test_a_state_that_cannot_be_read_is_told(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes) -> None:
    topics.publish(names.state, [Message(b'{"version":2}', b"1841")])
    done = invoke("env", "show", "1841")
    assert "Its state cannot be read" in done.stderr
    assert done.exit_code == Exit.FAILED


@pytest.mark.parametrize("reservation", ["[red]x[/]", "../../etc", "a b  c", "--json", "\x1b[2J\u202e", "ü" * 128])
@pytest.mark.usefixtures("terminal")
def test_ids_are_only_text(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, reservation: str) -> None:
    topics.publish(names.state, [state(reservation)])
    for options in ([], ["--json"]):
        done = invoke("env", "show", *options, "--", reservation)
        assert done.exit_code == Exit.OK
        assert "\x1b[2J" not in done.stdout
        assert "\u202e" not in done.stdout
    assert json.loads(done.stdout)["state"]["reservationId"] == reservation


@pytest.mark.parametrize("reservation", ["", "\udcff"])
def test_what_cannot_be_an_id_is_used_wrongly(invoke: Invoke, reservation: str) -> None:
    assert invoke("env", "show", reservation).exit_code == Exit.USAGE
