"""Settings come from the environment, and mistakes in them are named."""

import pytest
from pydantic import ValidationError

from consumer.app import ConfigurationError, catalog_of, connection_of, provisioners_of, topics_of
from consumer.settings import TERMINATION_GRACE, Settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)


def test_everything_has_a_default() -> None:
    settings = Settings()
    assert catalog_of(settings).runtimes == {"process"}
    assert topics_of(settings).inbound == ("reservation-events",)


def test_lists_and_pairs_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_TOPICS", "a, b,")
    monkeypatch.setenv("MOORAGE_RUNTIME_CONCURRENCY", "docker=5, process=2")
    settings = Settings()
    assert settings.inbound_topics == ("a", "b")
    assert settings.runtime_concurrency == {"docker": 5, "process": 2}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MOORAGE_RUNTIME_CONCURRENCY", "docke=5", "unknown runtime docke"),
        ("MOORAGE_RUNTIME_CONCURRENCY", "docker", "name=count"),
        ("MOORAGE_RUNTIME_CONCURRENCY", "docker=0", "at least 1"),
        ("MOORAGE_TOPICS", " , ", "MOORAGE_TOPICS names no topic"),
        ("MOORAGE_CONCURRENCY", "0", "greater than or equal to 1"),
        ("CONTAINER_RUNTIME", "dokcer", "process"),
        ("MOORAGE_INSTANCE", "a b", "should match pattern"),
        ("MOORAGE_DRAIN_TIMEOUT", "59", "Use 45 or less"),
    ],
)
def test_a_mistake_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=says):
        Settings()


def test_stopping_fits_into_the_grace_that_deployments_give() -> None:
    assert Settings().drain_timeout < TERMINATION_GRACE


def test_a_password_is_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("OPENSTACK_PASSWORD", "hunter2")
    settings = Settings()
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()
    assert "hunter2" not in repr(connection_of(settings))
    assert connection_of(settings).sasl_password == "hunter2"


def test_a_runtime_that_is_not_there_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_RUNTIME", "kubernetes")
    settings = Settings()
    with pytest.raises(ConfigurationError, match="does not provide the runtime kubernetes"):
        provisioners_of(settings, catalog_of(settings).runtimes)


def test_a_template_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_TEMPLATES", "/nowhere/templates.yaml")
    with pytest.raises(ConfigurationError, match=r"Cannot read MOORAGE_TEMPLATES /nowhere/templates\.yaml"):
        catalog_of(Settings())
