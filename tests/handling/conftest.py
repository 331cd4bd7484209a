"""Time is virtual here: hours of backoff pass at once."""

from collections.abc import Callable

from tests.virtual_clock import VirtualClockLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], VirtualClockLoop]]:
    return {"virtual clock": VirtualClockLoop}
