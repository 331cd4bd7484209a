"""What runs is asked of the runtimes, who has it of the state topic; either may be missing."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.app import ConfigurationError
from consumer.catalog.environment import EnvironmentSpec, Port
from consumer.catalog.identity import environment_name, reservation_key
from consumer.cli import env
from consumer.cli.console import Exit
from consumer.handling.errors import Unavailable
from consumer.handling.ports import Provisioner
from consumer.provisioners.memory import MemoryEngine, MemoryProvisioner
from consumer.settings import Settings
from schemas.events import Resource, User
from schemas.state import Phase, ReservationState
from tests.cli.conftest import Invoke
from tests.support.kafka import Kafka, Message, Names

END = datetime(2026, 3, 2, 10, tzinfo=UTC)
USER = User("5f0c", "mario_rossi")
RESOURCE = Resource("12", "GPU Server 1")

Runtimes = dict[str, MemoryProvisioner | Exception]


@pytest.fixture
def runtimes(monkeypatch: pytest.MonkeyPatch) -> Runtimes:
    """The runtimes that templates use; an exception is what a missing one raises."""
    runtimes: Runtimes = {"memory": MemoryProvisioner()}

    class Catalog:
        @property
        def runtimes(self) -> frozenset[str]:
            return frozenset(runtimes)

    def provisioners_of(settings: Settings, wanted: frozenset[str]) -> dict[str, Provisioner]:
        (name,) = wanted
        found = runtimes[name]
        if isinstance(found, Exception):
            raise found
        return {name: found}

    monkeypatch.setattr(env, "catalog_of", lambda settings: Catalog())
    monkeypatch.setattr(env, "provisioners_of", provisioners_of)
    return runtimes


@pytest.fixture
def no_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")


def run(provisioner: MemoryProvisioner | Exception, reservation: str, user: User = USER) -> None:
    assert isinstance(provisioner, MemoryProvisioner)
    spec = EnvironmentSpec(
        name=environment_name("default", reservation, user, RESOURCE),
        key=reservation_key("default", reservation),
        runtime="memory",
        template="default",
        image="nginx",
        user=user,
        resource=RESOURCE,
        reservation_id=reservation,
        expires_at=END,
        ports=(Port(80, host=8080),),
    )
    asyncio.run(provisioner.ensure(spec, lambda progress: None))


def state(reservation: str, **changes: Any) -> Message:
    facts: dict[str, Any] = {
        "reservation_id": reservation,
        "phase": Phase.ACTIVE,
        "revision": "1",
        "start": END - timedelta(hours=2),
        "end": END + timedelta(hours=1),
        "user": USER,
        "resource": RESOURCE,
        "changed_at": END,
    }
    return Message(ReservationState(**facts | changes).to_bytes(), reservation.encode())


def test_environments_are_joined_with_what_is_remembered(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    run(runtimes["memory"], "1841")
    topics.publish(names.state, [state("1841", end=END), state("1841"), state("1842")])
    name = environment_name("default", "1841", USER, RESOURCE)
    done = invoke("env", "list")
    assert done.stdout == (
        f"{name}  memory  running  1841  mario_rossi  GPU Server 1  2026-03-02 11:00:00Z  127.0.0.1:8080\n"
    )
    assert (done.exit_code, done.stderr) == (Exit.OK, "")
    told = json.loads(invoke("env", "list", "--json").stdout)
    assert (told["phase"], told["userId"], told["until"]) == ("ACTIVE", "5f0c", "2026-03-02T11:00:00+00:00")
    assert told["access"]["ports"] == [{"port": 80, "hostPort": 8080, "protocol": "tcp"}]


def test_of_states_in_two_partitions_the_newer_counts(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    run(runtimes["memory"], "1841")
    newer = state("1841", user=User("77", "anna"), changed_at=END + timedelta(seconds=1))
    topics.publish(names.state, [Message(newer.value, newer.key, partition=0)])
    topics.publish(names.state, [Message(state("1841").value, newer.key, partition=1)])
    assert "  anna  " in invoke("env", "list").stdout


@pytest.mark.usefixtures("no_kafka")
def test_without_kafka_environments_are_listed_with_a_note(invoke: Invoke, runtimes: Runtimes) -> None:
    run(runtimes["memory"], "1841")
    done = invoke("env", "list")
    assert "  1841  mario_rossi  12  2026-03-02 10:00:00Z  " in done.stdout
    assert "shown without what is remembered of reservations: No Kafka broker answers" in done.stderr
    assert done.exit_code == Exit.OK
    assert json.loads(invoke("env", "list", "--json").stdout)["phase"] is None


def test_a_missing_state_topic_is_a_note_as_well(
    invoke: Invoke, topics: Kafka, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_STATE_TOPIC", "no-such-topic")
    run(runtimes["memory"], "1841")
    done = invoke("env", "list")
    assert (done.exit_code, done.stdout.count("\n")) == (Exit.OK, 1)
    assert "has no topic no-such-topic" in done.stderr


@pytest.mark.usefixtures("no_kafka")
def test_a_runtime_that_does_not_answer_hides_no_other(invoke: Invoke, runtimes: Runtimes) -> None:
    engine = MemoryEngine()
    engine.fail("list", Unavailable("The engine is [off]."))
    runtimes["broken"] = MemoryProvisioner(engine)
    runtimes["missing"] = ConfigurationError("Not installed.")
    run(runtimes["memory"], "1841")
    done = invoke("env", "list")
    assert (done.exit_code, done.stdout.count("\n")) == (Exit.FAILED, 1)
    assert "error broken does not answer: The engine is [off]." in done.stderr
    assert "error missing: Not installed." in done.stderr


@pytest.mark.usefixtures("no_kafka", "terminal")
def test_on_a_terminal_it_is_a_table_without_anybodys_markup(invoke: Invoke, runtimes: Runtimes) -> None:
    run(runtimes["memory"], "1841", User("77", "[red]\x1b[2J"))
    done = invoke("env", "list")
    assert "[red]" in done.stdout
    assert "\x1b[2J" not in done.stdout


@pytest.mark.usefixtures("no_kafka")
def test_a_runtime_that_hangs_is_given_up(invoke: Invoke, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "_PATIENCE", 0.2)
    runtimes["slow"] = MemoryProvisioner(MemoryEngine(latency=30.0))
    done = invoke("env", "list")
    assert done.exit_code == Exit.FAILED
    assert "slow does not answer: silent for 0.2 s" in done.stderr


@pytest.mark.usefixtures("no_kafka")
@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--user", "anna"], {"2"}),
        (["--resource", "12"], {"1", "2"}),
        (["--user", "anna", "--resource", "13"], set()),
    ],
)
def test_only_what_was_asked_for_is_listed(
    invoke: Invoke, runtimes: Runtimes, options: list[str], found: set[str]
) -> None:
    run(runtimes["memory"], "1")
    run(runtimes["memory"], "2", User("77", "anna"))
    done = invoke("env", "list", "--json", *options)
    assert {json.loads(line)["reservation"] for line in done.stdout.splitlines()} == found
    assert ("no environments" in done.stderr) is not bool(found)


def test_user_and_resource_are_found_by_what_is_remembered_too(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    run(runtimes["memory"], "1841")
    topics.publish(names.state, [state("1841")])
    for options in (["--user", "5f0c"], ["--user", "mario_rossi"], ["--resource", "GPU Server 1"]):
        assert invoke("env", "list", *options).stdout.count("\n") == 1
