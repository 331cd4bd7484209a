"""The Kafka that measurements run on: the one that KAFKA_BOOTSTRAP_SERVERS names, or one started for the occasion."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.services import KafkaBroker


@contextmanager
def real_kafka() -> Iterator[str]:
    """The address (host:port,...) of a real Kafka. Ends the program where this machine cannot have one."""
    if address := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield address
        return
    broker = KafkaBroker.start()
    try:
        if not broker.real:
            raise SystemExit("A mock broker is no base for measurements. Install Java 17 and Maven, or Docker.")
        yield broker.bootstrap_servers
    finally:
        broker.stop()
