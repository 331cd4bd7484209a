"""What the tests of delivery share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import KafkaBroker, ServiceMissing
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
    try:
        broker = KafkaBroker.start(own=True, settings=AUTHORIZER)
    except ServiceMissing as missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(missing))
    yield broker
    broker.stop()


@pytest.fixture
def mortal(own_kafka: KafkaBroker) -> Iterator[KafkaBroker]:
    """A broker that tests may kill, or make rules for; it is up again for the next one."""
    yield own_kafka
    own_kafka.start_node()
