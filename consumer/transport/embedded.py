"""An embedded broker: librdkafka's mock cluster, which speaks the Kafka protocol and lives in this process.

Good for demonstrations and for tests on a machine without Kafka. It keeps everything in memory, compacts nothing, and
cannot create topics on request: they come into being, with four partitions each, when they are first asked for.
"""

import signal
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

_START_TIMEOUT = 10.0


class EmbeddedBroker:
    """A broker for as long as the `with` block lasts. Needs the `demo` extra (confluent-kafka)."""

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = tuple(topics)
        self._client: Any = None
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        from confluent_kafka import Producer

        # Its thread gives up when a signal interrupts it, as Ctrl-C may after Ctrl-Z: none shall come to it.
        ours = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            # log_level 4: not the notice that the addresses were replaced, which is the very point.
            self._client = Producer({"bootstrap.servers": "embedded", "test.mock.num.brokers": 1, "log_level": 4})
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ours)
        brokers = self._client.list_topics(timeout=_START_TIMEOUT).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        for topic in self._topics:
            self._client.list_topics(topic, timeout=_START_TIMEOUT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client = None  # the cluster goes with its client
