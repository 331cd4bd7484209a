"""The slow part of every service, ahead of time: installing and fetching belong to no test's time limit."""

import contextlib
import os
from collections.abc import Callable, Iterable

from tests.services.definitions import HTTP_ROUTES, SCALED_OBJECTS, SERVICE_MONITORS, path_of
from tests.services.engine import prepare_engine_programs, running_engine
from tests.services.helm import path_of_helm
from tests.services.kafka import prepare_kafka
from tests.services.kubernetes import prepare_kubernetes, prepare_kubernetes_that_runs_pods
from tests.services.missing import ServiceMissing
from tests.services.packages import need
from tests.services.podman import prepare_podman_programs, running_podman
from tests.services.registry import prepare_registry
from tests.services.rundir import one_at_a_time
from tests.services.ssh import need_ssh


def prepare(services: Iterable[str]) -> None:
    """Install and fetch what starts of these services need. Raises ServiceMissing."""
    with one_at_a_time("prepare"):
        for service in services:
            SERVICES[service]()


def prepare_what_is_possible(services: Iterable[str]) -> None:
    """`prepare` for a test run, where a missing service is told by the tests that need it."""
    for service in services:
        with contextlib.suppress(ServiceMissing):
            prepare([service])


def _prepare_docker() -> None:
    if running_engine() is None:
        prepare_engine_programs()
    elif os.getuid() == 0:
        need({"busybox": "busybox-static"})
    if os.getuid() == 0:
        need_ssh()


def _prepare_podman() -> None:
    if running_podman() is None:
        prepare_podman_programs()


def prepare_helm() -> None:
    path_of_helm()


def prepare_gateway_api() -> None:
    path_of(HTTP_ROUTES)


def prepare_operators() -> None:
    path_of(SERVICE_MONITORS)
    path_of(SCALED_OBJECTS)


SERVICES: dict[str, Callable[[], None]] = {
    "kafka": prepare_kafka,
    "docker": _prepare_docker,
    "podman": _prepare_podman,
    "registry": prepare_registry,
    "kubernetes": prepare_kubernetes,
    "kubelet": prepare_kubernetes_that_runs_pods,
    "helm": prepare_helm,
    "gateway-api": prepare_gateway_api,
    "operators": prepare_operators,
}
