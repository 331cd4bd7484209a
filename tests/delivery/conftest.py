"""What the tests of delivery share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import running
from tests.services import DockerEngine, KafkaBroker
from tests.services.kafka_settings import AUTHORIZER
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


@pytest.fixture(scope="package")
def own_kafka() -> Iterator[KafkaBroker]:
    yield from running(lambda: KafkaBroker.start(own=True, settings=AUTHORIZER))


@pytest.fixture
def mortal(own_kafka: KafkaBroker) -> Iterator[KafkaBroker]:
    """A broker that tests may kill, or make rules for; it is up again for the next one."""
    yield own_kafka
    own_kafka.start_node()


@pytest.fixture
def own_engine() -> Iterator[DockerEngine]:
    """An engine that a test may stop, which the one that others share is not."""
    yield from running(DockerEngine.start_own)
