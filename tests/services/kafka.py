"""Apache Kafka for tests, the most real one that this machine can offer."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from tests.services.kafka_container import image_problem, start_container
from tests.services.kafka_jvm import prepare_jars, start_jvm
from tests.services.kafka_mock import start_mock
from tests.services.missing import ServiceMissing, note


class Nodes(Protocol):
    """What runs the nodes of a cluster. They are numbered from 1."""

    @property
    def bootstrap_servers(self) -> str: ...
    def kill(self, node: int) -> None: ...
    def start(self, node: int) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class KafkaBroker:
    """A running cluster. `real` is False for librdkafka's mock, which knows the protocol but keeps nothing."""

    nodes: Nodes
    real: bool = True

    @classmethod
    def start(cls, nodes: int = 1, *, own: bool = False, settings: Mapping[str, str] | None = None) -> Self:
        """A cluster that answers requests.

        The first of these that is to be had: the one named by MOORAGE_TEST_KAFKA (host:port,...), an apache/kafka
        container, a JVM on jars from Maven, librdkafka's mock (never with CI=true). `own` asks for one that the
        caller may kill and stop, so neither the first nor the last. `settings` are broker properties on top of ours.

        Raises ServiceMissing with every reason.
        """
        if not own and (address := os.environ.get("MOORAGE_TEST_KAFKA")):
            return cls(_Elsewhere(address))
        try:
            return cls(_first_to_start([start_container, start_jvm], nodes, settings or {}))
        except ServiceMissing as missing:
            if own or os.environ.get("CI") == "true":
                raise
            note(f"NO REAL KAFKA: using librdkafka's mock, so tests that need a real one are skipped ({missing})")
            return cls(start_mock(nodes), real=False)

    @property
    def bootstrap_servers(self) -> str:
        return self.nodes.bootstrap_servers

    def kill(self, node: int = 1) -> None:
        """Kill -9: the node has no chance to say goodbye."""
        self.nodes.kill(node)

    def start_node(self, node: int = 1) -> None:
        """Start a killed node on the address and data it had; returns when it answers."""
        self.nodes.start(node)

    def restart(self, node: int = 1) -> None:
        self.kill(node)
        self.start_node(node)

    def stop(self) -> None:
        """End the cluster and remove its data. A cluster that was here before us is left alone."""
        self.nodes.stop()


def prepare_kafka() -> None:
    """Fetch what a start needs, which can take minutes the first time. Raises ServiceMissing."""
    if not os.environ.get("MOORAGE_TEST_KAFKA") and image_problem() is not None:
        prepare_jars()


def _first_to_start(
    ways: list[Callable[[int, Mapping[str, str]], Nodes]], nodes: int, settings: Mapping[str, str]
) -> Nodes:
    reasons = []
    for start in ways:
        try:
            return start(nodes, settings)
        except ServiceMissing as missing:
            reasons.append(str(missing))
    raise ServiceMissing("; ".join(reasons))


@dataclass(frozen=True)
class _Elsewhere:
    """A cluster that somebody else runs."""

    bootstrap_servers: str

    def kill(self, node: int) -> None:
        raise ServiceMissing("the Kafka of MOORAGE_TEST_KAFKA is not ours to kill; start one with own=True")

    start = kill

    def stop(self) -> None:
        pass
