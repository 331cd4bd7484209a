"""Time is virtual here: a test may wait for hours."""

from collections.abc import Callable

from tests.virtual_clock import VirtualClockLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], VirtualClockLoop]]:
    return {"virtual clock": VirtualClockLoop}
