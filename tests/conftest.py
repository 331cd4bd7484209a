"""What every test can count on: real services where they are to be had, and a watch for blocked event loops."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import blocking, order
from tests.needs import services_of

if TYPE_CHECKING:  # loading the Docker SDK takes longer than most unit tests
    from tests.services import DockerEngine, KafkaBroker, Kubernetes, PodmanEngine, Registry, ServiceMissing

# structlog's own default draws tracebacks with all locals, which takes so long that it counts as blocking the loop.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)

# A busy machine may take its time for an example: what takes too long is told by the time limits of tests.
settings.register_profile("moorage", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("moorage")

# GNU readline, which pytest loads, gives the size of its terminal to child processes: to workers and what they start.
for size in ("COLUMNS", "LINES"):
    os.environ.pop(size, None)

_notes_of_workers: list[str] = []
_IN_CI = os.environ.get("CI") == "true"


class Service(Protocol):
    def stop(self) -> None: ...


S = TypeVar("S", bound=Service)
T = TypeVar("T")


@pytest.fixture(scope="session")
def kafka() -> Iterator["KafkaBroker"]:
    """One node of Apache Kafka that all tests share, so leave it running and use topics and groups of your own.

    It may be a mock (`kafka.real` is False) on a machine that cannot offer better; tests that need more say so with
    `@pytest.mark.kafka`.
    """
    from tests.services import KafkaBroker

    yield from running(KafkaBroker.start)


@pytest.fixture
def start_kafka() -> Iterator[Callable[..., "KafkaBroker"]]:
    """Starts real clusters that this test may kill: `start_kafka(nodes=3)`; see `KafkaBroker.start`."""
    from tests.services import KafkaBroker, ServiceMissing

    brokers: list[KafkaBroker] = []

    def start(nodes: int = 1, **options: object) -> KafkaBroker:
        try:
            brokers.append(KafkaBroker.start(nodes, own=True, **options))  # type: ignore[arg-type]
        except ServiceMissing as missing:
            without(missing)
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.stop()


@pytest.fixture(scope="session")
def helm() -> str:
    """Where Helm is."""
    from tests.services.helm import path_of_helm

    return had(path_of_helm)


@pytest.fixture(scope="session")
def docker_engine() -> Iterator["DockerEngine"]:
    """A Docker Engine that answers at `.url` and has `.image` (busybox). Remove what you create: it may be shared."""
    from tests.services import DockerEngine

    yield from running(DockerEngine.start)


@pytest.fixture(scope="session")
def podman_engine() -> Iterator["PodmanEngine"]:
    """A Podman that answers at `.url` and has `.image` (busybox). Remove what you create: it may be shared."""
    from tests.services import PodmanEngine

    yield from running(PodmanEngine.start)


@pytest.fixture(scope="session")
def rootless_podman() -> Iterator["PodmanEngine"]:
    """The same without root's rights, and always our own."""
    from tests.services import PodmanEngine

    yield from running(lambda: PodmanEngine.start_own(rootless=True))


@pytest.fixture(scope="session")
def registry() -> Iterator["Registry"]:
    """An image registry at `.address` (127.0.0.1:port), without TLS and without users."""
    from tests.services import Registry

    yield from running(Registry.start)


@pytest.fixture(scope="session")
def private_registry() -> Iterator["Registry"]:
    """One that wants a login (tests.services.registry: USER, PASSWORD)."""
    from tests.services import Registry

    yield from running(lambda: Registry.start(private=True))


@pytest.fixture(scope="session")
def kubernetes() -> Iterator["Kubernetes"]:
    """A cluster for the admin's `.kubeconfig`: a real control plane whose nodes are simulated, so pods run nothing.

    All tests share it: use `kubernetes_namespace`, or `kubernetes.namespace()` for further ones.
    """
    from tests.services import Kubernetes

    yield from running(Kubernetes.start)


@pytest.fixture(scope="session")
def kubernetes_with_kubelet() -> Iterator["Kubernetes"]:
    """One whose only node runs pods, of the image `moorage/busybox:test` (or others: tests.services.kubelet)."""
    from tests.services import Kubernetes

    yield from running(lambda: Kubernetes.start(runs_pods=True))


@pytest.fixture
def kubernetes_namespace(kubernetes: "Kubernetes") -> Iterator[str]:
    """The name of a namespace of this test's own."""
    with kubernetes.namespace() as name:
        yield name


@pytest.fixture(autouse=True)
def _real_kafka_where_marked(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("kafka") and "kafka" in request.fixturenames:
        broker: KafkaBroker = request.getfixturevalue("kafka")
        if not broker.real:
            pytest.skip("needs a real Apache Kafka; this machine only has librdkafka's mock")


def running(start: Callable[[], S]) -> Iterator[S]:
    """What `start` starts, until its fixture is left; without it, a test is skipped or fails."""
    service = had(start)
    yield service
    service.stop()


def had(get: Callable[[], T]) -> T:
    """What it returns; where it cannot be had, a test is skipped or fails."""
    from tests.services import ServiceMissing

    try:
        return get()
    except ServiceMissing as missing:
        without(missing)


def without(missing: "ServiceMissing") -> NoReturn:
    """A missing service is somebody's laptop, or a broken CI."""
    if _IN_CI:
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    with blocking.watch() as blocked:
        outcome = yield
    if blocked:
        pytest.fail("\n".join(blocked), pytrace=False)
    return outcome


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(order)
    # As Ctrl-C does: whoever ends the run, fixtures get to stop what they started.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install and fetch before the first test, since a test's time limit includes its fixtures."""
    gc.freeze()  # what was loaded stays, and need not be looked through again and again
    needed = {service for item in session.items for service in services_of(item)}
    if needed and not session.config.option.collectonly:
        from tests.services.prepare import prepare_what_is_possible

        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            prepare_what_is_possible(sorted(needed))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["notes"] = _notes()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker had to say is for the summary at the end; one that crashed says nothing."""
    _notes_of_workers.extend(getattr(node, "workeroutput", {}).get("notes", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for note in dict.fromkeys([*_notes(), *_notes_of_workers]):
        terminalreporter.section("services", yellow=True)
        terminalreporter.write_line(note)


def _notes() -> list[str]:
    services = sys.modules.get("tests.services")  # loaded only if a test asked for one
    return services.notes if services else []


def pytest_unconfigure(config: pytest.Config) -> None:
    """A worker that crashed, or had no time left to end what it had started, leaves that to us."""
    if config.getoption("numprocesses", None):
        from tests.services.rundir import end_stale

        end_stale()
