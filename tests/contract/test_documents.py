"""The published documents are current, valid, and true of the samples."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from typer.testing import CliRunner

from consumer.cli.schema import app
from consumer.settings import Settings
from schemas.cloudevents import NOTIFICATION_TYPE, message_headers
from schemas.deadletter import DeadLetter
from schemas.documents import documents
from schemas.examples import example_result, sample_document
from tests.contract.test_dead_letters import LETTER, written

HERE = Path(__file__).parent
PUBLISHED = HERE.parent.parent / "docs" / "schema"
SHAPES = {
    "event_start": "inbound-flat",
    "event_start_sparse": "inbound-flat",
    "event_end": "inbound-flat",
    "batch_start": "inbound-batch",
    "event_updated": "inbound-reservation",
    "event_deleted": "inbound-reservation",
    "resource_deleted": "inbound-resource",
    "ping": "inbound-ping",
    "platform_notification": "notification",
}


def document(name: str) -> Any:
    return json.loads(documents()[name])


@cache
def official_asyncapi() -> Draft7Validator:
    schema = json.loads((HERE / "asyncapi-3.0.0.schema.json").read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def test_the_checked_in_documents_are_current() -> None:
    result = CliRunner().invoke(app, ["export", "--check", "--out", str(PUBLISHED)])
    assert (result.exit_code, result.output) == (0, "")


def test_documents_are_the_same_every_time() -> None:
    assert documents() == documents()


@pytest.mark.parametrize("name", [name for name in documents() if name.endswith(".schema.json")])
def test_every_schema_is_valid_json_schema(name: str) -> None:
    schema = document(name)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("sample_name", "shape"), SHAPES.items())
def test_every_sample_fits_the_schema_of_its_shape(sample_name: str, shape: str) -> None:
    validator = Draft202012Validator(document(f"{shape}.schema.json"))
    assert list(validator.iter_errors(sample_document(sample_name))) == []


@pytest.mark.parametrize("shape", sorted(set(SHAPES.values())))
def test_a_sample_of_another_shape_does_not_fit(shape: str) -> None:
    validator = Draft202012Validator(document(f"{shape}.schema.json"))
    fitting = {name for name in SHAPES if validator.is_valid(sample_document(name))}
    assert fitting == {name for name, its_shape in SHAPES.items() if its_shape == shape}


def test_the_example_result_fits_its_schema() -> None:
    Draft202012Validator(document("result.schema.json")).validate(json.loads(example_result().to_bytes()))


def test_the_asyncapi_document_is_valid() -> None:
    assert [error.message for error in official_asyncapi().iter_errors(document("asyncapi.json"))] == []


def test_the_official_schema_would_have_noticed() -> None:
    broken = document("asyncapi.json")
    broken["operations"]["handleEvent"]["action"] = "consume"
    assert not official_asyncapi().is_valid(broken)


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    whole = document("asyncapi.json")

    def references(node: Any) -> list[str]:
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        own = [node["$ref"]] if isinstance(node, dict) and "$ref" in node else []
        return own + [reference for child in children for reference in references(child)]

    for reference in references(whole):
        target = whole
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    assert len(references(whole)) > 20


def test_every_example_in_the_asyncapi_document_fits_its_message() -> None:
    whole = document("asyncapi.json")
    for message in whole["components"]["messages"].values():
        validator = Draft202012Validator({**message["payload"], "components": whole["components"]})
        for example in message.get("examples", []):
            assert list(validator.iter_errors(example["payload"])) == []


def test_the_documented_topics_are_the_default_ones() -> None:
    channels = document("asyncapi.json")["channels"].values()
    documented = [parameter["default"] for channel in channels for parameter in channel["parameters"].values()]
    fields = Settings.model_fields
    defaults = (fields[name].default for name in ("inbound_topics", "outbound_topic", "dead_letter_topic"))
    assert documented == [topic if isinstance(topic, str) else topic[0] for topic in defaults]


def headers_of(message: str) -> set[str]:
    return set(document("asyncapi.json")["components"]["messages"][message]["headers"]["properties"])


@pytest.mark.parametrize("message", ["result", "notification", "progress"])
def test_the_documented_event_headers_are_those_we_write(message: str) -> None:
    assert LETTER.failed_at is not None
    pairs = message_headers(
        id="i",
        type=NOTIFICATION_TYPE,
        source="/moorage/lab",
        subject="1841",
        time=LETTER.failed_at,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    assert headers_of(message) == {name for name, _ in pairs}


def test_the_documented_dead_letter_headers_are_those_we_write() -> None:
    bare = DeadLetter(**({name: getattr(LETTER, name) for name in DeadLetter.__slots__} | {"headers": ()}))
    assert headers_of("deadLetter") == {name for name, _ in written(bare)}


def test_export_writes_what_check_wants(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    exported = CliRunner().invoke(app, ["export", "--out", str(out)])
    assert exported.exit_code == 0
    assert {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()} == documents()
    assert CliRunner().invoke(app, ["export", "--check", "--out", str(out)]).exit_code == 0


def test_check_names_what_is_stale_missing_or_left_over_and_writes_nothing(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["export", "--out", str(tmp_path)])
    (tmp_path / "result.schema.json").write_text("{}\n")
    (tmp_path / "notification.schema.json").unlink()
    (tmp_path / "gone.schema.json").write_text("{}")
    (tmp_path / "README.md").write_text("Not ours.")
    checked = CliRunner().invoke(app, ["export", "--check", "--out", str(tmp_path)])
    named = [Path(line.removeprefix("stale: ")).name for line in checked.stderr.splitlines() if "stale: " in line]
    assert (checked.exit_code, named) == (
        1,
        ["gone.schema.json", "notification.schema.json", "result.schema.json"],
    )
    assert (tmp_path / "result.schema.json").read_text() == "{}\n"


def test_a_folder_that_is_not_there_is_all_stale(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["export", "--check", "--out", str(tmp_path / "none")]).exit_code == 1
