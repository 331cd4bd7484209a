"""What nodes of a cluster set aside for an environment: never more than it may use."""

from collections.abc import Mapping

import pytest

from consumer.catalog.environment import EnvironmentSpec, Limits
from tests.catalog.reservations import catalog, reservation

MIB, GIB = 1024**2, 1024**3
LIMITS = "limits: {cpu: 4, memory: 8Gi}, minimum: {cpu: 100m, memory: 64Mi}, maximum: {cpu: 16, memory: 8Gi}"


def resolved(requests: str = "", parameters: Mapping[str, str] | None = None, *, more: str = LIMITS) -> EnvironmentSpec:
    template = f"runtime: kubernetes, {more}, kubernetes: {{service: cluster, {requests}}}"
    return catalog(template).resolve(reservation(parameters))


def test_requests_are_written_as_limits_are() -> None:
    spec = resolved("requests: {cpu: 0.25, memory: 1.5Gi, storage: 2G}", more=f"{LIMITS}, volume: {{path: /data}}")

    assert spec.kubernetes.requests == Limits(250, 1536 * MIB, 2_000_000_000)
    assert spec.limits == Limits(4000, 8 * GIB, None)


def test_what_is_not_requested_is_as_much_as_the_limit() -> None:
    assert resolved("requests: {cpu: 1}").kubernetes.requests == Limits(cpu_millis=1000)
    assert resolved().kubernetes.requests == Limits()


@pytest.mark.parametrize(
    ("asked", "requests"),
    [
        ({"cpu": "500m"}, Limits(500, GIB)),
        ({"memory": "512Mi"}, Limits(2000, 512 * MIB)),
        ({"cpu": "2", "memory": "1Gi"}, Limits(2000, GIB)),
        ({"cpu": "16"}, Limits(2000, GIB)),
    ],
)
def test_a_lower_limit_that_a_user_chooses_lowers_the_request(asked: dict[str, str], requests: Limits) -> None:
    assert resolved("requests: {cpu: 2, memory: 1Gi}", asked).kubernetes.requests == requests


def test_what_has_no_limit_may_have_a_request() -> None:
    more = "limits: {cpu: unlimited}"

    spec = resolved("requests: {cpu: 64, storage: 1Ti}", more=more)

    assert spec.limits.cpu_millis is None
    assert spec.kubernetes.requests == Limits(cpu_millis=64_000, storage_bytes=1024 * GIB)


def test_another_request_is_another_environment() -> None:
    specs = [resolved(each) for each in ("", "requests: {cpu: 1}", "requests: {cpu: 2}", "requests: {memory: 1Gi}")]

    assert len({each.spec_hash for each in specs}) == len(specs)
    assert resolved("requests: {}").spec_hash == specs[0].spec_hash
