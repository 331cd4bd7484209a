"""Every code that provisioners fail with is explained, and nothing else is."""

import re
from pathlib import Path

import consumer.provisioners
from consumer.provisioners.reasons import REASONS

_CODE = re.compile(r"(?:Transient|Permanent)\(\s*\"([a-z_]+)\"")


def test_the_codes_in_use_are_the_codes_explained() -> None:
    sources = Path(consumer.provisioners.__file__).parent.rglob("*.py")
    used = {code for source in sources for code in _CODE.findall(source.read_text())} | {"runtime_unavailable"}

    assert used == set(REASONS)
