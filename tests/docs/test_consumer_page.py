"""The page on other consumers shows code that works."""

import asyncio
import re
import sys
from types import ModuleType

import pytest

from tools.readme import README

PAGE = README.parent / "docs" / "how-to" / "consumer.md"
EXAMPLE, ITS_TEST = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.splitlines()) < 30


def test_the_example_passes_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    shop, billing, tests = ModuleType("shop"), ModuleType("shop.billing"), ModuleType("tests_of_it")
    monkeypatch.setitem(sys.modules, "shop", shop)
    monkeypatch.setitem(sys.modules, "shop.billing", billing)
    exec(EXAMPLE, vars(billing))  # noqa: S102 - our own page
    exec(ITS_TEST, vars(tests))  # noqa: S102
    asyncio.run(asyncio.wait_for(tests.test_a_paid_order_gets_an_invoice(), 30))
