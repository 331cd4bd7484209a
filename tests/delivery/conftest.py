"""What the tests of delivery share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import KafkaBroker
from tests.support.double import Stage
from tests.support.installation import Installation, installation


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """What the in-memory runtime of a service obeys."""
    return Stage(tmp_path / "stage")


@pytest.fixture
def ours(kafka: KafkaBroker, tmp_path: Path, stage: Stage) -> Iterator[Installation]:
    """An installation on the shared Kafka, for services of the kind `DoubleService`."""
    with installation(kafka.bootstrap_servers, tmp_path, **stage.settings) as ours:
        yield ours
