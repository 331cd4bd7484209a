"""What the README says is so."""

import re
from pathlib import Path

import pytest

from consumer.catalog.templates import Catalog
from tools.readme import README, with_settings

ROOT = README.parent


def test_the_table_of_settings_is_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_settings(text) == text, "run `python -m tools.readme`"


def test_the_template_shown_is_one_that_works() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    assert Catalog.from_yaml(shown[1], instance="docs").runtimes == {"docker"}


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/**/*.md")), README], ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
