"""Time is virtual here, except where a real broker takes part."""

import asyncio
from collections.abc import Callable

import pytest

from tests.virtual_clock import VirtualClockLoop


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name == "test_real_kafka.py":
        return {"real clock": asyncio.new_event_loop}
    return {"virtual clock": VirtualClockLoop}
