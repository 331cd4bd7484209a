"""What the tests of all runtimes share."""

import pytest

from tests.services import ports

# The conformance suite is no test module, but its assertions shall explain themselves like one's.
pytest.register_assert_rewrite("tests.provisioners.conformance")


@pytest.fixture
def free_port() -> int:
    """A port that nobody had a moment ago."""
    return ports.free_port()
