"""The Docker Engine that measurements run on: the one that answers here, or one started for the occasion."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.services import DockerEngine, ServiceMissing


@contextmanager
def real_engine() -> Iterator[DockerEngine]:
    """An engine with the test image. Ends the program where this machine cannot have one."""
    try:
        engine = DockerEngine.start()
    except ServiceMissing as missing:
        raise SystemExit(str(missing)) from missing
    try:
        yield engine
    finally:
        engine.stop()
