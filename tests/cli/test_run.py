"""`moorage run` with what it cannot begin with: one clear line for each mistake, before anything is touched."""

from pathlib import Path

import pytest

from consumer.cli.console import Exit
from tests.cli.conftest import Invoke

TEMPLATES = """\
version: 1
messages:
  failed: "{x.__class__}"
templates:
  - {name: a, runtime: docker, image: nginx, cpu: 2}
"""


def test_mistakes_in_the_template_file_are_told_with_their_lines(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ours.yaml").write_text(TEMPLATES)
    monkeypatch.setenv("MOORAGE_TEMPLATES", str(tmp_path / "ours.yaml"))
    done = invoke("run")
    assert (done.exit_code, done.stdout) == (Exit.FAILED, "")
    first, second = done.stderr.splitlines()
    assert first.startswith('error ours.yaml:3: messages.failed: has "{x.__class__}", which stands for nothing; ')
    assert second.startswith('ours.yaml:5: templates[0].cpu (template "a"): is not known; ')


@pytest.fixture(autouse=True)
def _logging_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.cli.run.configure_logging", lambda level, form: None)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MOORAGE_TEMPLATES", "/nowhere/templates.yaml", "error Cannot read MOORAGE_TEMPLATES"),
        ("CONTAINER_RUNTIME", "openstack", "error This version of Moorage does not provide the runtime openstack"),
    ],
)
def test_settings_that_do_not_fit_together_are_told(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    done = invoke("run")
    assert (done.exit_code, done.stderr.count("\n")) == (Exit.FAILED, 1)
    assert done.stderr.startswith(says)


def test_a_zone_that_does_not_exist_is_told(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_TIME_ZONE", "Europe/Rom")
    done = invoke("run")
    assert done.exit_code == Exit.USAGE
    assert "MOORAGE_TIME_ZONE: Value error, 'Europe/Rom' is not a time zone; did you mean Europe/Rome?" in done.stderr
