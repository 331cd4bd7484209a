"""And so does Kafka, or the contract would be about nothing."""

import pytest

from consumer.transport.connection import Connection
from tests.memory_broker.conformance import BrokerConformance
from tests.services import KafkaBroker


@pytest.mark.kafka
class TestRealKafka(BrokerConformance):
    @pytest.fixture
    def connection(self, kafka: KafkaBroker) -> Connection:
        return Connection(kafka.bootstrap_servers)
