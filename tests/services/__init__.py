"""The real services that tests and benchmarks talk to: Apache Kafka, Docker, Podman, Kubernetes, an image registry.

What runs already is used and never stopped. What does not run is started, in a folder of its own, and ended again;
what a killed run left behind is ended by the next one. From the command line: `python -m tests.services --help`.
"""

from tests.services.engine import DockerEngine
from tests.services.kafka import KafkaBroker
from tests.services.kubernetes import Kubernetes
from tests.services.missing import ServiceMissing, notes
from tests.services.podman import PodmanEngine
from tests.services.ports import free_port
from tests.services.registry import Registry

__all__ = [
    "DockerEngine",
    "KafkaBroker",
    "Kubernetes",
    "PodmanEngine",
    "Registry",
    "ServiceMissing",
    "free_port",
    "notes",
]
