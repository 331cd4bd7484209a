"""Time is virtual here: hours of backoff pass at once, and a busy machine is no failure of Hypothesis' deadline."""

from collections.abc import Callable

from hypothesis import settings

from tests.virtual_clock import VirtualClockLoop

settings.register_profile("handling", deadline=None)
settings.load_profile("handling")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], VirtualClockLoop]]:
    return {"virtual clock": VirtualClockLoop}
