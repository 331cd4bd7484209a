"""Why an environment does not come up, told as soon as the cluster can tell."""

import asyncio
from typing import Any

import pytest

from consumer.catalog.environment import EnvironmentSpec, Limits, Readiness
from consumer.catalog.security import Security
from consumer.handling.errors import Permanent, ProvisionerError, Transient
from consumer.handling.ports import Progress
from consumer.provisioners.kubernetes.failures import failure_of
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.harness import STUCK, KubernetesHarness
from tests.provisioners.kubernetes.proxy import ApiProxy
from tests.services import Kubernetes

pytestmark = pytest.mark.kubernetes

SPEC = KubernetesHarness("", "").spec()
PULL = "ErrImagePull"
CONFIG = "CreateContainerConfigError"


@pytest.mark.parametrize(
    ("reason", "said", "expected", "code", "tells"),
    [
        ("InvalidImageName", "couldn't parse image", Permanent, "invalid_spec", "not a valid image name"),
        ("ErrImageNeverPull", "not present", Permanent, "image_not_present", "not at hand"),
        (PULL, "failed to resolve reference: not found", Permanent, "image_not_found", "was not found"),
        (PULL, "no match for platform in manifest", Permanent, "image_not_found", "this architecture"),
        (PULL, "pull access denied, may require authorization", Permanent, "image_pull_denied", "wants a login"),
        (PULL, "429 Too Many Requests: toomanyrequests", Transient, "image_pull_failed", "limits how often"),
        (PULL, "web@sha256:4290ab: not found", Permanent, "image_not_found", "was not found"),
        (PULL, "web@sha256:4: 429 for sha256:5", Transient, "image_pull_failed", "limits how often"),
        (PULL, "port 14291 refused", Transient, "image_pull_failed", "could not be pulled"),
        (PULL, "dial tcp 192.0.2.1:443: i/o timeout", Transient, "image_pull_failed", "could not be pulled"),
        ("ImagePullBackOff", "Back-off pulling image", Transient, "image_pull_failed", "could not be pulled"),
        (CONFIG, "container has runAsNonRoot and image will run as root", Permanent, "image_runs_as_root", "as root"),
        (CONFIG, "image has non-numeric user (www)", Permanent, "image_runs_as_root", "by number"),
        (CONFIG, 'secret "x" not found', Transient, "runtime_error", "is not there"),
        (CONFIG, "couldn't find key A in Secret x/y at /var/lib/kubelet/x", Permanent, "invalid_spec", "find key A"),
        ("CreateContainerError", "no command specified", Permanent, "exited_at_start", "no command specified"),
        ("RunContainerError", 'exec: "x": executable file not found', Permanent, "exited_at_start", "not found"),
        ("RunContainerError", "context deadline exceeded", Transient, "runtime_error", "context deadline"),
        ("CreateContainerError", 'failed to reserve container name "x"', Transient, "runtime_error", "reserve"),
        ("CreateContainerError", "write /var/lib/x: no space left on device", Transient, "runtime_error", "no space"),
    ],
)
def test_what_a_container_waits_for_in_vain_has_its_meaning(
    reason: str, said: str, expected: type[ProvisionerError], code: str, tells: str
) -> None:
    state = {"waiting": {"reason": reason, "message": said}}
    pod = {
        "metadata": {},
        "spec": {},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "environment", "state": state}]},
    }

    failure = failure_of(SPEC, pod)

    assert type(failure) is expected
    assert failure.code == code
    assert tells in failure.message
    assert "/var/lib" not in failure.message


@pytest.mark.parametrize(
    ("login", "tells"),
    [(f"{SPEC.name}-pull", "does not accept the service's login"), ("of-all-pods", "wants a login")],
    ids=["ours", "of-all-pods"],  # names of environments are others each time
)
def test_who_gave_a_login_is_told_that_it_is_not_accepted(login: str, tells: str) -> None:
    state = {"waiting": {"reason": PULL, "message": "401 Unauthorized"}}
    status = {"phase": "Pending", "containerStatuses": [{"name": "environment", "state": state}]}

    failure = failure_of(SPEC, {"metadata": {}, "spec": {"imagePullSecrets": [{"name": login}]}, "status": status})

    assert failure is not None
    assert (failure.code, tells in failure.message) == ("image_pull_denied", True)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("ContainerCreating", ""),
        ("PodInitializing", ""),
        ("", ""),
        (CONFIG, "failed to sync secret cache: timed out waiting for the condition"),
        (CONFIG, "no relationship found between node 'n' and this object"),
        (CONFIG, "failed to prepare subPath for volumeMount"),
    ],
)
def test_what_passes_by_itself_is_no_failure(reason: str, said: str) -> None:
    state = {"waiting": {"reason": reason, "message": said}}
    pod = {
        "metadata": {},
        "spec": {},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "environment", "state": state}]},
    }

    assert failure_of(SPEC, pod) is None


async def test_what_a_container_waits_for_in_vain_is_told_at_once(harness: KubernetesHarness) -> None:
    ensuring = ensure(harness, harness.spec(labels=STUCK))
    await harness.waits(harness.spec().name, PULL, "failed to resolve reference: not found")

    with pytest.raises(Permanent) as error:
        await ensuring

    assert error.value.code == "image_not_found"
    await harness.nothing_left()


@pytest.mark.parametrize(("reason", "tells"), [("Error", "exit code 3"), ("OOMKilled", "out of memory")])
async def test_a_program_that_ends_at_once_is_told_with_its_exit_code(
    harness: KubernetesHarness, reason: str, tells: str
) -> None:
    ensuring = ensure(harness, harness.spec(labels=STUCK))
    await harness.end(harness.spec().name, exit_code=3, reason=reason)

    with pytest.raises(Permanent, match=tells) as error:
        await ensuring

    assert error.value.code == "exited_at_start"
    await harness.nothing_left()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, "runtime_error"),
        ({"reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"}, "runtime_full"),
    ],
)
async def test_a_pod_that_its_node_gives_up_is_tried_again(
    harness: KubernetesHarness, status: dict[str, str], code: str
) -> None:
    ensuring = ensure(harness, harness.spec(labels=STUCK))
    await harness.there(harness.spec().name)
    await harness.tell(harness.spec().name, phase="Failed", **status)

    with pytest.raises(Transient) as error:
        await ensuring

    assert error.value.code == code


async def test_a_pod_that_no_node_takes_is_given_up_with_the_schedulers_reason(harness: KubernetesHarness) -> None:
    steps: list[Progress] = []
    spec = harness.spec(limits=Limits(cpu_millis=1_000_000))

    with pytest.raises(Transient, match="Insufficient cpu") as error:
        await harness.provisioner_with(schedule_timeout=0.5).ensure(spec, steps.append)

    assert error.value.code == "runtime_full"
    assert "scheduling" in [step.stage for step in steps]
    await harness.nothing_left()


async def test_a_pod_that_its_node_does_not_start_in_time_is_told_with_what_the_cluster_warned_of(
    harness: KubernetesHarness,
) -> None:
    spec = harness.spec(labels=STUCK, start_timeout=12)
    ensuring = ensure(harness, spec)
    for reason, message in (("BackOff", "first"), ("FailedMount", 'MountVolume failed for "data": /var/lib/kubelet/x')):
        await harness.say(spec.name, reason, message, kind="Warning")

    with pytest.raises(Permanent, match=r"in time\. FailedMount: MountVolume failed") as error:
        await ensuring

    assert error.value.code == "not_started"
    assert "/var/lib" not in error.value.message
    await harness.nothing_left()


async def test_the_words_of_the_environments_own_container_are_asked_for(
    harness: KubernetesHarness, proxy: ApiProxy
) -> None:
    spec, provisioner = harness.spec(labels=STUCK), harness.provisioner_with(kubeconfig=str(proxy.kubeconfig))
    ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
    await harness.there(spec.name)
    await harness.end(spec.name, exit_code=3)

    with pytest.raises(Permanent, match="exit code 3"):
        await ensuring

    assert proxy.count(r"GET \S+/log\?container=environment&") == 1


async def test_a_program_that_does_not_become_ready_is_given_up(harness: KubernetesHarness) -> None:
    spec = harness.spec(labels=STUCK, ready=Readiness(port=8080, path="/", within=0.5))
    ensuring = ensure(harness, spec)
    said = "Readiness probe failed: HTTP probe failed with statuscode: 500"
    await harness.say(spec.name, "Unhealthy", said, kind="Warning")
    await harness.runs(spec.name, ready=False)

    with pytest.raises(Permanent, match=r"No page answered on port 8080 within 0\.5 s") as error:
        await ensuring

    assert error.value.code == "not_ready"
    assert error.value.message.endswith(" Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 500")
    await harness.nothing_left()


async def test_what_else_is_told_of_a_pod_does_not_end_its_settling(harness: KubernetesHarness) -> None:
    spec, loop = harness.spec(labels=STUCK), asyncio.get_running_loop()
    ensuring = asyncio.create_task(harness.provisioner_with(settle=60.0).ensure(spec, ignore))
    await harness.there(spec.name)
    await harness.tell(spec.name, phase="Pending")
    await harness.runs(spec.name, ready=True)
    for number in range(5):
        await harness.tell(spec.name, message=f"Said later: {number}")
        await asyncio.wait([ensuring], timeout=0.1)
    began = loop.time()
    assert not ensuring.done()
    await harness.end(spec.name, exit_code=3)

    with pytest.raises(Permanent, match="exit code 3") as error:
        await ensuring

    assert error.value.code == "exited_at_start"
    assert loop.time() - began < 30


async def test_one_that_becomes_ready_late_is_waited_for(harness: KubernetesHarness) -> None:
    spec = harness.spec(labels=STUCK, ready=Readiness(port=8080))
    ensuring = ensure(harness, spec)
    await harness.runs(spec.name, ready=False)
    await harness.runs(spec.name, ready=True)

    assert (await ensuring).name == spec.name


async def test_a_pod_that_is_deleted_while_it_starts_is_tried_again(harness: KubernetesHarness) -> None:
    spec = harness.spec(labels=STUCK)
    ensuring = ensure(harness, spec)
    await harness.there(spec.name)
    await harness.core.delete_namespaced_pod(spec.name, harness.namespace)

    with pytest.raises(Transient, match="was deleted") as error:
        await ensuring

    assert error.value.code == "runtime_busy"


async def test_what_pod_security_does_not_allow_is_refused_in_its_words(harness: KubernetesHarness) -> None:
    spec = harness.spec(security=Security(capabilities=("SYS_CHROOT",)))

    with pytest.raises(Permanent, match="SYS_CHROOT") as error:
        await harness.provisioner().ensure(spec, ignore)

    assert error.value.code == "invalid_spec"
    assert "Pod Security" in error.value.message
    await harness.nothing_left()


async def test_root_is_refused_where_pods_are_restricted(harness: KubernetesHarness) -> None:
    with pytest.raises(Permanent, match="runAsNonRoot"):
        await harness.provisioner().ensure(harness.spec(security=Security(user="0")), ignore)


async def test_a_full_quota_of_the_namespace_is_waited_for(kubernetes: Kubernetes) -> None:
    with kubernetes.namespace() as namespace:
        harness = KubernetesHarness(str(kubernetes.kubeconfig), namespace)
        await harness.connect()
        await harness.core.create_namespaced_resource_quota(
            namespace, {"metadata": {"name": "no-room"}, "spec": {"hard": {"pods": "0"}}}
        )
        async with asyncio.timeout(30):
            while not (await harness.core.read_namespaced_resource_quota("no-room", namespace)).status.used:  # noqa: ASYNC110 - the API has no event
                await asyncio.sleep(0.05)

        with pytest.raises(Transient, match="no-room") as error:
            await harness.provisioner().ensure(harness.spec(), ignore)

        assert error.value.code == "runtime_full"
        assert await harness.clean_up() == []


async def test_a_label_that_a_cluster_cannot_have_is_refused(harness: KubernetesHarness) -> None:
    with pytest.raises(Permanent, match="cannot be the name of a label"):
        await harness.provisioner().ensure(harness.spec(labels={"my course!": "1"}), ignore)

    await harness.nothing_left()


def ensure(harness: KubernetesHarness, spec: EnvironmentSpec) -> asyncio.Task[Any]:
    return asyncio.create_task(harness.provisioner().ensure(spec, ignore))
