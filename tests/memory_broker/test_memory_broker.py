"""The double does as the contract says."""

import pytest

from consumer.transport.memory import MemoryBroker, MemoryConnection
from tests.memory_broker.conformance import BrokerConformance


class TestMemoryBroker(BrokerConformance):
    @pytest.fixture
    async def connection(self) -> MemoryConnection:
        return MemoryBroker().connection()
