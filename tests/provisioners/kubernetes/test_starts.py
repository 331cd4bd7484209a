"""What a start waits for, as the cluster tells: a node with room, an image being fetched, devices that others have."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from consumer.catalog.environment import EnvironmentSpec, Kubernetes, Limits
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Progress
from consumer.provisioners.kubernetes.pulls import is_pulling, lacked_login, seconds_of_pulls
from tests.provisioners.harness import ignore, until
from tests.provisioners.kubernetes.harness import STUCK, KubernetesHarness
from tests.services.registry import write_login

pytestmark = pytest.mark.kubernetes

GPU = "nvidia.com/gpu"
NODE = "simulated-1"
UNREAD, REFUSED = "Unable to retrieve some image pull secrets", 'Failed to pull image "web:1"'


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ('Successfully pulled image "web:1" in 1.5s (7.25s including waiting). Image size: 12 bytes.', 7.25),
        ('Successfully pulled image "web:1" in 350ms (350ms including waiting). Image size: 12 bytes.', 0.35),
        ('Successfully pulled image "web:1" in 1m2.5s (1m2.5s including waiting)', 62.5),
        ('Successfully pulled image "web:1" in 2h0m1s', 7201),
        ('Container image "web:1" already present on machine', 0),
        ('Successfully pulled image "web:1" in a moment', 0),
        (None, 0),
    ],
)
def test_how_long_a_pull_took_is_read_from_what_its_node_says(said: str | None, seconds: float) -> None:
    assert seconds_of_pulls([{"reason": "Pulled", "message": said}]) == pytest.approx(seconds)


def test_the_latest_event_says_whether_an_image_is_being_fetched() -> None:
    scheduled, pulling = event("Scheduled", 1), event("Pulling", 2)

    assert not is_pulling([])
    assert not is_pulling([scheduled])
    assert is_pulling([pulling, scheduled])
    assert not is_pulling([event("Failed", 3), pulling])


@pytest.mark.parametrize(("without", "failed", "lacked"), [(0, 0, False), (0, 1, False), (1, 1, True), (1, 2, False)])
def test_a_pull_without_the_login_is_told_from_one_with_it(without: int, failed: int, lacked: bool) -> None:
    told = [
        {"reason": "FailedToRetrieveImagePullSecret", "count": without, "message": f"{UNREAD} (web-pull)"},
        {"reason": "Failed", "count": failed, "message": f"{REFUSED}: 401 Unauthorized"},
        {"reason": "Failed", "count": 9, "message": "Error: ErrImagePull"},
    ]
    events = [each for each in told if each["count"]]

    assert lacked_login(events, "web-pull") is lacked
    assert lacked_login(events, "other-pull") is False


async def test_a_registrys_no_to_a_node_that_had_no_login_yet_is_no_failure_and_its_next_one_is(
    harness: KubernetesHarness, tmp_path: Path
) -> None:
    credentials = write_login(tmp_path / "config.json", "registry.example.org")
    provisioner, spec = harness.provisioner_with(registry_credentials=credentials), harness.spec(labels=STUCK)
    steps: list[Progress] = []
    ensuring = asyncio.create_task(provisioner.ensure(spec, steps.append))
    await harness.say(spec.name, "FailedToRetrieveImagePullSecret", f"{UNREAD} ({spec.name}-pull)")
    await harness.say(spec.name, "Failed", f"{REFUSED}: 401 Unauthorized")
    await harness.waits(spec.name, "ErrImagePull", "401 Unauthorized")
    await harness.waits(spec.name, "ImagePullBackOff", 'Back-off pulling image "web:1"')  # why, few nodes repeat
    await harness.say(spec.name, "Pulling", 'Pulling image "web:1"')  # which is said when all is looked at again
    await until(lambda: ensuring.done() or any(step.stage == "pulling" for step in steps), within=15)
    assert not ensuring.done()

    await harness.core.patch_namespaced_event(f"{spec.name}.failed", harness.namespace, {"count": 2})
    await harness.waits(spec.name, "ErrImagePull", "401 Unauthorized, again")

    with pytest.raises(Permanent, match="does not accept the service's login") as error:
        await ensuring
    assert error.value.code == "image_pull_denied"


async def test_how_long_the_image_was_fetched_is_told(harness: KubernetesHarness) -> None:
    steps: list[Progress] = []
    spec = harness.spec(labels=STUCK)
    ensuring = asyncio.create_task(harness.provisioner().ensure(spec, steps.append))
    await harness.say(spec.name, "Pulled", 'Successfully pulled image "web:1" in 5s (7.5s including waiting).')
    await began(harness, spec, after=8)

    await ensuring

    assert [step for step in steps if step.stage == "pulled"] == [Progress("pulled", spec.image, 7.5)]


async def test_nobody_asks_how_long_an_image_was_fetched_that_was_at_hand(harness: KubernetesHarness) -> None:
    steps: list[Progress] = []
    spec = harness.spec(labels=STUCK)
    ensuring = asyncio.create_task(harness.provisioner().ensure(spec, steps.append))
    await harness.say(spec.name, "Pulled", 'Successfully pulled image "web:1" in 5s (7.5s including waiting).')
    await began(harness, spec, after=1)

    await ensuring

    assert [step for step in steps if step.stage == "pulled"] == []


async def test_an_image_that_is_not_fetched_in_time_is_told_as_that(harness: KubernetesHarness) -> None:
    spec = harness.spec(labels=STUCK, start_timeout=12)
    ensuring = asyncio.create_task(harness.provisioner().ensure(spec, ignore))
    await harness.say(spec.name, "Pulling", 'Pulling image "web:1"')

    with pytest.raises(Permanent, match="did not fetch the image in time") as error:
        await ensuring

    assert error.value.code == "not_started"


async def test_who_does_not_wait_for_a_node_fails_at_once_with_the_reason(harness: KubernetesHarness) -> None:
    spec = harness.spec(limits=Limits(cpu_millis=1_000_000))

    with pytest.raises(Transient, match="Insufficient cpu") as error:
        await harness.provisioner_with(schedule_timeout=0.0).ensure(spec, ignore)

    assert error.value.code == "runtime_full"


async def test_the_scheduler_looks_for_room_for_the_requests_and_not_for_the_limits(harness: KubernetesHarness) -> None:
    more_than_any_node_has = Limits(1_000_000, 1024**5, 1024**5)
    requests = Kubernetes(requests=Limits(100, 64 * 1024**2, 1024**3))
    spec = harness.spec(limits=more_than_any_node_has, kubernetes=requests)

    pod = (await harness.pod(await harness.provisioner().ensure(spec, ignore)))["spec"]

    assert pod["nodeName"]
    assert pod["containers"][0]["resources"] == {
        "limits": {"cpu": "1k", "memory": str(1024**5), "ephemeral-storage": str(1024**5)},
        "requests": {"cpu": "100m", "memory": str(64 * 1024**2), "ephemeral-storage": str(1024**3)},
    }


async def test_what_is_not_requested_is_looked_for_as_the_limit(harness: KubernetesHarness) -> None:
    spec = harness.spec(limits=Limits(1_000_000, 1024**5), kubernetes=Kubernetes(requests=Limits(cpu_millis=100)))

    with pytest.raises(Transient, match="Insufficient memory") as error:
        await harness.provisioner_with(schedule_timeout=0.0).ensure(spec, ignore)

    assert error.value.code == "runtime_full"
    assert "Insufficient cpu" not in error.value.message


async def test_a_pod_that_no_scheduler_looks_at_is_told_as_that(harness: KubernetesHarness) -> None:
    spec = harness.spec(labels=STUCK, start_timeout=1)
    provisioner: Any = harness.provisioner()
    create = provisioner._client.create

    async def for_another(kind: Any, body: Any) -> Any:
        if kind.name == "Pod":
            body = body | {"spec": body["spec"] | {"schedulerName": "nobody"}}
        return await create(kind, body)

    provisioner._client.create = for_another

    with pytest.raises(Transient, match="No scheduler") as error:
        await provisioner.ensure(spec, ignore)

    assert error.value.code == "runtime_full"


@pytest.fixture
async def two_gpus(harness: KubernetesHarness) -> AsyncIterator[None]:
    """A node has two, as its device plugin would say."""
    await devices(harness, "2")
    yield
    await devices(harness, None)


@pytest.mark.usefixtures("two_gpus")
async def test_who_asks_for_a_gpu_comes_to_the_node_that_has_one_or_is_told_that_others_have_them(
    harness: KubernetesHarness,
) -> None:
    patient, impatient = harness.provisioner_with(), harness.provisioner_with(schedule_timeout=0.0)
    first, second, third = (harness.spec(f"r-{number}", gpus=1) for number in range(3))
    for spec in (first, second):
        assert (await harness.pod(await patient.ensure(spec, ignore)))["spec"]["nodeName"] == NODE

    with pytest.raises(Transient, match=f"Insufficient {GPU}") as error:
        await impatient.ensure(third, ignore)

    assert error.value.code == "runtime_full"
    await patient.remove(first.key)
    assert (await harness.pod(await patient.ensure(third, ignore)))["spec"]["nodeName"] == NODE


def event(reason: str, version: int) -> dict[str, Any]:
    return {"reason": reason, "metadata": {"resourceVersion": str(version)}, "lastTimestamp": "2030-01-01T00:00:00Z"}


async def began(harness: KubernetesHarness, spec: EnvironmentSpec, *, after: int) -> None:
    """A spec's program runs and is ready, so many seconds after its node took it."""
    state = {"running": {"startedAt": f"2030-01-01T00:00:{after:02}Z"}}
    container = {"name": "environment", "image": "x", "imageID": "", "restartCount": 0, "ready": True, "state": state}
    await harness.tell(
        spec.name,
        phase="Running",
        startTime="2030-01-01T00:00:00Z",
        containerStatuses=[container],
        conditions=[{"type": "Ready", "status": "True"}],
    )


async def devices(harness: KubernetesHarness, count: str | None) -> None:
    status = {"capacity": {GPU: count}, "allocatable": {GPU: count}}
    await harness.core.patch_node_status(NODE, {"status": status}, _content_type="application/merge-patch+json")
