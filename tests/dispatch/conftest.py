"""Time is virtual here: a test may wait for hours, and a busy machine is no failure of Hypothesis' deadline."""

from collections.abc import Callable

from hypothesis import settings

from tests.virtual_clock import VirtualClockLoop

settings.register_profile("dispatch", deadline=None)
settings.load_profile("dispatch")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], VirtualClockLoop]]:
    return {"virtual clock": VirtualClockLoop}
