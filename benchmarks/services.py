"""The services that measurements run on: those that answer here, or those that are started for the occasion."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from tests.services import ServiceMissing


class Service(Protocol):
    def stop(self) -> None: ...


Started = TypeVar("Started", bound=Service)


@contextmanager
def real(start: Callable[[], Started]) -> Iterator[Started]:
    """What `start` starts. Ends the program where this machine cannot have it."""
    try:
        service = start()
    except ServiceMissing as missing:
        raise SystemExit(str(missing)) from missing
    try:
        yield service
    finally:
        service.stop()
