"""Commands run in this process, against topics of their own, looked at with librdkafka."""

import logging
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from consumer.cli import console
from consumer.cli.env import details, handout, listing, look, orders, usage
from consumer.cli.main import app
from consumer.handling.ports import Provisioner
from consumer.parts import ConfigurationError
from consumer.provisioners.memory import MemoryProvisioner
from consumer.settings import Settings
from tests.services import KafkaBroker
from tests.support.kafka import Kafka, Names

Invoke = Callable[..., Result]
Runtimes = dict[str, MemoryProvisioner | Exception]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands set up logging for the whole process, which here is not theirs."""
    monkeypatch.setattr("consumer.cli.kafka.quiet_logging", lambda: None)
    client = logging.getLogger("aiokafka")
    before = client.level, client.propagate, client.handlers[:]
    yield
    client.level, client.propagate, client.handlers[:] = before


@pytest.fixture
def invoke() -> Invoke:
    """Runs a command line; what it returns has `exit_code`, `stdout`, `stderr` and `stdout_bytes`."""

    def run(*arguments: object, stdin: bytes | str | None = None) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands believe that they write to a terminal."""
    monkeypatch.setattr(console.out, "_force_terminal", True)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Topics of this test's own, which the commands' settings name."""
    names = Names()
    monkeypatch.setenv("MOORAGE_TOPICS", names.inbound)
    monkeypatch.setenv("MOORAGE_OUTBOUND_TOPIC", names.outbound)
    monkeypatch.setenv("MOORAGE_STATE_TOPIC", names.state)
    monkeypatch.setenv("MOORAGE_DEAD_LETTER_TOPIC", names.dead_letters)
    return names


@pytest.fixture
def topics(kafka: KafkaBroker, names: Names, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kafka]:
    """A real Kafka that has those topics, and that the commands' settings point to."""
    if not kafka.real:
        pytest.skip("needs a real Apache Kafka; this machine only has librdkafka's mock")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    with Kafka(kafka.bootstrap_servers) as client:
        client.create(*names.topics, partitions=4)
        yield client
        client.forget(*names.topics)


@pytest.fixture
def no_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")


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
        found = runtimes.get(name, ConfigurationError(f"There is no {name}."))
        if isinstance(found, Exception):
            raise found
        return {name: found}

    for module in (details, handout, listing, orders, usage):
        monkeypatch.setattr(module, "catalog_of", lambda settings: Catalog())
    monkeypatch.setattr(look, "provisioners_of", provisioners_of)
    return runtimes
