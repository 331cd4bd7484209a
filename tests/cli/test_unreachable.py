"""A Kafka that is not there, or not as the settings say, ends a command with one clear line and soon."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from consumer.cli.console import Exit
from consumer.transport import clients
from tests.cli.conftest import Invoke

COMMANDS = [
    ["publish", "-"],
    ["watch"],
    ["dlq", "list"],
    ["dlq", "show", "0:0"],
    ["dlq", "replay", "--all", "--yes"],
]
PING = b'{"eventType":"ALL","timestamp":"2026-03-02T07:00:00Z"}'


@pytest.fixture
def silence() -> Iterator[str]:
    """The address of somebody who listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_brokers_that_refuse_are_told_with_their_reason(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1,127.0.0.1:2")
    done = invoke(*command, stdin=PING)
    assert (done.exit_code, done.stdout) == (Exit.FAILED, "")
    assert "error No Kafka broker answers at 127.0.0.1:1,127.0.0.1:2 (Unable connect to" in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_broker_that_is_silent_is_given_up(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, silence: str, command: list[str]
) -> None:
    monkeypatch.setattr(clients, "PATIENCE", 0.5)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", silence)
    done = invoke(*command, stdin=PING)
    assert (done.exit_code, done.stdout) == (Exit.FAILED, "")
    assert f"No Kafka broker answers at {silence} (silent for 0.5 s)" in done.stderr


def test_a_real_command_line_says_one_line_and_nothing_else(silence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "consumer", "dlq", "list"],
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": silence},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert (done.returncode, done.stdout) == (Exit.FAILED, "")
    assert done.stderr.startswith("error No Kafka broker answers")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "sasl_plain_username"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_FILE": "/no/such/file"}, "KAFKA_SSL_CA_FILE /no/such/file"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "localhost:ninety"}, "KAFKA_BOOTSTRAP_SERVERS localhost:ninety"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = invoke("dlq", "list")
    assert done.exit_code == Exit.FAILED
    assert says in done.stderr
