"""The page of reasons is made from the code, whole and current."""

import re
from pathlib import Path

from tests.contract.test_refusals import CODES
from tools.reasons import PAGE, REMEDIES, UNREADABLE, documented, page

ROOT = Path(__file__).parent.parent.parent
_RAISED = re.compile(r"\b(?:Transient|Permanent|Refused|DecodeError|_dead_letter|_skip)\((?:\w+,)?\s*\"([a-z_]+)\"")


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tools.reasons`"


def test_every_code_has_one_meaning_and_one_remedy() -> None:
    codes = re.findall(r"^\| `([a-z_]+)` \| [A-Z].*\. \| [A-Z].*\. \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(codes) == len(set(codes))
    assert set(codes) == documented() == set(REMEDIES)


def test_every_code_that_is_raised_anywhere_is_on_the_page() -> None:
    raised = {
        code
        for package in ("consumer", "schemas")
        for source in (ROOT / package).rglob("*.py")
        for code in _RAISED.findall(source.read_text(encoding="utf-8"))
    }
    assert {"conflict", "already_over", "image_not_allowed", "internal_error", "not_json"} <= raised
    assert raised <= documented()


def test_what_cannot_be_read_is_told_as_decoding_tells_it() -> None:
    assert set(UNREADABLE) == CODES
