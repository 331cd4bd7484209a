"""The reference pages show what the code does."""

import json
import re
from pathlib import Path

from schemas.examples import example_kubectl, example_notification, example_progress, example_result
from schemas.outbound import Outcome, Timings
from tests.contract.test_refusals import CODES

REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_the_shown_messages_are_the_examples() -> None:
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page("outbound.md"), re.DOTALL)]
    examples = (example_result(), example_kubectl(), example_notification(), example_progress())
    assert shown == [json.loads(example.to_bytes()) for example in examples]


def test_every_error_code_and_every_outcome_is_explained() -> None:
    assert set(re.findall(r"^\| `([a-z_]+)` \|", page("events.md"), re.MULTILINE)) == CODES
    results = page("outbound.md").partition("## Results")[2].partition("### Timings")[0]
    assert set(re.findall(r"^\| `([a-z]+)` \|", results, re.MULTILINE)) == set(Outcome)


def test_every_part_of_the_timings_is_explained_in_order() -> None:
    timings = page("outbound.md").partition("### Timings")[2].partition("## Notifications")[0]
    assert [*re.findall(r"^\| `([a-z]+)` \|", timings, re.MULTILINE), "total"] == list(Timings.model_fields)
    assert "`total`" in timings


def test_every_link_leads_to_a_file() -> None:
    for name in ("events.md", "outbound.md"):
        for link in re.findall(r"\]\((\.\.[^)]+)\)", page(name)):
            assert (REFERENCE / link.partition("#")[0]).exists(), link
