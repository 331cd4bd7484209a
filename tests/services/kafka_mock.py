"""librdkafka's mock cluster, in this process: the protocol without a log behind it. Better than no Kafka at all."""

from confluent_kafka import Producer

from tests.services.missing import ServiceMissing


def start_mock(nodes: int) -> "MockNodes":
    return MockNodes(nodes)


class MockNodes:
    """Lives as long as the client that carries it. It creates topics by itself and cannot be killed."""

    def __init__(self, nodes: int) -> None:
        # The log level hides librdkafka's notice that the mock stands in for the given servers.
        self._carrier = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": nodes, "log_level": 3})
        brokers = self._carrier.list_topics(timeout=10).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def kill(self, node: int) -> None:
        raise ServiceMissing("the mock cluster's nodes cannot be killed")

    start = kill

    def stop(self) -> None:
        del self._carrier
