"""The usual troubles are found, each with what to do about it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from consumer.cli import doctor
from consumer.cli.console import Exit
from consumer.handling.ports import Provisioner
from consumer.parts import connection_of, topics_of
from consumer.provisioners.memory import MemoryProvisioner
from consumer.settings import Settings
from consumer.transport.topics import ensure_topics
from tests.cli.conftest import Invoke
from tests.support.kafka import Kafka, Names

TEMPLATES = """
version: 1
images: {allow: ["nginx:*"]}
templates:
  - {name: web, match: {type: Web}, runtime: docker, image: "nginx:1.27", ports: "80"}
  - {name: fixed, runtime: docker, image: "nginx:1.27", overrides: []}
"""


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> MemoryProvisioner:
    """What stands for the docker runtime."""
    provisioner = MemoryProvisioner(runtime="docker")

    def provisioners_of(settings: Settings, wanted: frozenset[str]) -> dict[str, Provisioner]:
        return dict.fromkeys(wanted, provisioner)

    monkeypatch.setattr(doctor, "provisioners_of", provisioners_of)
    monkeypatch.setenv("CONTAINER_RUNTIME", "docker")
    return provisioner


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    file = tmp_path / "templates.yaml"
    file.write_text(TEMPLATES)
    monkeypatch.setenv("MOORAGE_TEMPLATES", str(file))
    return file


def found(output: str) -> dict[str, dict[str, Any]]:
    """The findings by their subjects."""
    return {each["subject"]: each for each in map(json.loads, output.splitlines())}


@pytest.mark.usefixtures("docker")
def test_when_all_is_well_everything_is_told(invoke: Invoke, topics: Kafka, names: Names) -> None:
    topics.forget(names.state)  # it was not made as Moorage makes it: compacted
    settings = Settings()
    asyncio.run(ensure_topics(connection_of(settings), topics_of(settings), create=True, partitions=4))

    done = invoke("doctor")
    assert (done.exit_code, done.stderr) == (Exit.OK, "")
    kafka, templates, engine = done.stdout.splitlines()
    assert kafka.startswith("ok  kafka  127.0.0.1:")
    assert templates == "ok  templates  1, made of the default settings."
    assert engine == "ok  docker, engine  It is there."


@pytest.mark.usefixtures("docker", "topics")
def test_a_state_topic_that_forgets_is_told_with_the_remedy(invoke: Invoke, names: Names) -> None:
    finding = found(invoke("doctor", "--json").stdout)["kafka"]
    assert finding["message"].startswith(f"The state topic {names.state} is not compacted")
    assert "kafka-configs.sh --alter" in finding["remedy"]


@pytest.mark.usefixtures("docker")
def test_topics_that_the_start_creates_are_a_warning_and_others_an_error(
    invoke: Invoke, topics: Kafka, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_OUTBOUND_TOPIC", f"{names.outbound}-other")
    missing = f"Missing topics: {names.outbound}-other."

    warned = found(invoke("doctor", "--json").stdout)["kafka"]
    monkeypatch.setenv("MOORAGE_CREATE_TOPICS", "false")
    done = invoke("doctor", "--json")

    assert (warned["level"], warned["message"]) == ("warning", missing)
    assert done.exit_code == Exit.FAILED
    assert found(done.stdout)["kafka"] == {
        "level": "error",
        "subject": "kafka",
        "message": missing,
        "remedy": "Create them, or set MOORAGE_CREATE_TOPICS=true.",
    }


@pytest.mark.usefixtures("no_kafka")
def test_all_else_is_examined_although_kafka_does_not_answer(invoke: Invoke, docker: MemoryProvisioner) -> None:
    docker.engine.reachable = False
    done = invoke("doctor", "--json")
    findings = found(done.stdout)
    assert done.exit_code == Exit.FAILED
    assert findings["kafka"]["remedy"] == "Check KAFKA_BOOTSTRAP_SERVERS and that the brokers run."
    assert findings["docker, engine"]["remedy"] == "Switch it on."


@pytest.mark.usefixtures("docker", "no_kafka")
def test_each_mistake_in_the_templates_is_told(invoke: Invoke, templates: Path) -> None:
    templates.write_text(TEMPLATES.replace("ports", "prots").replace("overrides: []", "limits: {cpu: x}"))
    done = invoke("doctor", "--no-kafka")
    assert done.exit_code == Exit.FAILED
    first, second = done.stdout.splitlines()
    assert 'is not known; did you mean "ports"?' in first
    assert 'CPU "x" is not a quantity' in second


@pytest.mark.usefixtures("docker", "templates")
@pytest.mark.parametrize(
    ("image", "level", "message"),
    [("nginx:1.28", "ok", "Its users may ask for "), ("redis", "warning", 'The image "redis" is not allowed here.')],
)
def test_whether_an_image_is_allowed_is_told(invoke: Invoke, image: str, level: str, message: str) -> None:
    findings = found(invoke("doctor", "--no-kafka", "--json", "--image", image).stdout)
    assert findings["template web"]["level"] == level
    assert findings["template web"]["message"].startswith(message)
    assert findings["template fixed"]["message"] == "Its users may not choose an image."


@pytest.mark.usefixtures("no_kafka")
def test_a_runtime_that_this_version_does_not_have_is_an_error(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_RUNTIME", "libvirt")
    monkeypatch.setenv("DEFAULT_IMAGE", "debian")
    done = invoke("doctor", "--no-kafka", "--json")
    assert done.exit_code == Exit.FAILED
    assert found(done.stdout)["libvirt"]["level"] == "error"


@pytest.mark.usefixtures("docker", "terminal")
def test_on_a_terminal_the_remedy_has_a_line_of_its_own(invoke: Invoke, docker: MemoryProvisioner) -> None:
    docker.engine.reachable = False
    shown = invoke("doctor", "--no-kafka").stdout
    assert "The in-memory engine is switched off." in shown
    assert "→ Switch it on." in shown
