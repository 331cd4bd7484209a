"""A root directory of its own for each test, which must be empty of environments afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.provisioners.process.harness import ProcessHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ProcessHarness]:
    harness = ProcessHarness(tmp_path)
    yield harness
    assert await harness.clean_up() == []
