"""What the tests of all runtimes share."""

import socket

import pytest

# The conformance suite is no test module, but its assertions shall explain themselves like one's.
pytest.register_assert_rewrite("tests.provisioners.conformance")


@pytest.fixture
def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
