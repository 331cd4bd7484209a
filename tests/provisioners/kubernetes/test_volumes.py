"""Volumes as claims of a real API server, bound to volumes that lie nowhere."""

from dataclasses import replace
from typing import Any

import pytest

from consumer.catalog.security import Security
from consumer.handling.errors import Permanent, Transient
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.harness import KubernetesHarness, volume_of

pytestmark = pytest.mark.kubernetes


async def claims(harness: KubernetesHarness) -> list[Any]:
    found: list[Any] = (await harness.core.list_namespaced_persistent_volume_claim(harness.namespace)).items
    return found


async def test_a_reservations_volume_goes_with_it_unless_it_is_to_be_kept(harness: KubernetesHarness) -> None:
    await harness.storage()
    provisioner = harness.provisioner_with(storage_class=harness.instance)
    spec = harness.spec(volume=volume_of(harness, "r-1", size_bytes=2 * 1024**3))
    made = await provisioner.ensure(spec, ignore)

    pod = (await harness.pod(made))["spec"]
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == "/data"
    assert pod["securityContext"]["fsGroup"] == 1000
    await provisioner.remove(spec.key, keep=True)
    (claim,) = await claims(harness)
    assert claim.spec.resources.requests == {"storage": str(2 * 1024**3)}
    assert (await provisioner.ensure(spec, ignore)).notes == ()
    assert (await claims(harness))[0].metadata.uid == claim.metadata.uid
    assert await provisioner.remove(spec.key) is True
    assert await claims(harness) == []


async def test_a_volume_is_removed_though_a_crash_left_nothing_else(harness: KubernetesHarness) -> None:
    await harness.storage()
    provisioner = harness.provisioner_with(storage_class=harness.instance)
    spec = harness.spec(volume=volume_of(harness, "r-1"))
    await provisioner.ensure(spec, ignore)
    await provisioner.remove(spec.key, keep=True)

    assert await provisioner.remove(spec.key) is True
    assert await provisioner.remove(spec.key) is False


async def test_a_users_volume_stays_and_is_found_again(harness: KubernetesHarness) -> None:
    await harness.storage()
    provisioner = harness.provisioner_with(storage_class=harness.instance)
    volume = volume_of(harness)
    await provisioner.ensure(harness.spec("r-1", volume=volume), ignore)
    await provisioner.remove(harness.spec("r-1").key)
    (before,) = await claims(harness)

    larger = replace(volume, size_bytes=5 * 1024**3)
    made = await provisioner.ensure(harness.spec("r-2", volume=larger), ignore)

    assert [each.metadata.uid for each in await claims(harness)] == [before.metadata.uid]
    assert made.notes == ("The volume keeps the size that it was made with.",)
    await provisioner.remove(harness.spec("r-2").key)
    await harness.core.delete_namespaced_persistent_volume_claim(volume.name, harness.namespace)
    await harness.nothing_left()


@pytest.mark.parametrize(("size", "notes"), [(2_000_000_000, 0), (2 * 1024**3, 1), (1_999_999_999, 1)])
async def test_only_another_size_is_told_however_the_api_writes_it(
    harness: KubernetesHarness, size: int, notes: int
) -> None:
    await harness.storage()
    provisioner = harness.provisioner_with(storage_class=harness.instance)
    volume = volume_of(harness, "r-1", size_bytes=2_000_000_000)
    await provisioner.ensure(harness.spec(volume=volume), ignore)
    assert (await claims(harness))[0].spec.resources.requests == {"storage": "2G"}

    await provisioner.remove(harness.spec().key, keep=True)
    made = await provisioner.ensure(harness.spec(volume=replace(volume, size_bytes=size)), ignore)

    assert len(made.notes) == notes


async def test_a_size_that_moorage_would_not_take_is_another_one_and_ends_no_start(harness: KubernetesHarness) -> None:
    await harness.storage()
    volume = volume_of(harness, "r-1", size_bytes=2)
    body = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1500m"}},
        "storageClassName": harness.instance,
    }
    metadata = {"name": volume.name, "labels": volume.labels, "annotations": volume.labels}
    await harness.core.create_namespaced_persistent_volume_claim(
        harness.namespace, {"metadata": metadata, "spec": body}
    )

    made = await harness.provisioner().ensure(harness.spec(volume=volume), ignore)

    assert made.notes == ("The volume keeps the size that it was made with.",)


async def test_somebody_elses_claim_is_never_used(harness: KubernetesHarness) -> None:
    volume = volume_of(harness, "r-1")
    body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await harness.core.create_namespaced_persistent_volume_claim(
        harness.namespace, {"metadata": {"name": volume.name}, "spec": body}
    )

    with pytest.raises(Permanent) as conflict:
        await harness.provisioner().ensure(harness.spec(volume=volume), ignore)

    assert conflict.value.code == "conflict"
    assert len(await claims(harness)) == 1
    await harness.core.delete_namespaced_persistent_volume_claim(volume.name, harness.namespace)
    await harness.nothing_left()


async def test_a_volume_that_nobody_has_room_for_is_told(harness: KubernetesHarness) -> None:
    provisioner = harness.provisioner_with(storage_class="nobody-has-it", schedule_timeout=0.5)
    spec = harness.spec(volume=volume_of(harness, "r-1"))

    with pytest.raises(Transient, match="PersistentVolumeClaims") as error:
        await provisioner.ensure(spec, ignore)

    assert error.value.code == "runtime_full"
    assert await provisioner.remove(spec.key) is True


async def test_the_class_and_mode_of_a_template_go_before_those_of_all(harness: KubernetesHarness) -> None:
    await harness.storage()
    provisioner = harness.provisioner_with(storage_class="nobody-has-it")
    volume = volume_of(harness, "r-1", storage_class=harness.instance, access_mode="ReadWriteMany")

    await provisioner.ensure(harness.spec(volume=volume), ignore)

    (claim,) = await claims(harness)
    assert (claim.spec.storage_class_name, claim.spec.access_modes) == (harness.instance, ["ReadWriteMany"])
    assert claim.status.phase == "Bound"


async def test_a_volume_that_is_there_is_used_whatever_the_template_says_by_now(harness: KubernetesHarness) -> None:
    await harness.storage()
    provisioner, spec = harness.provisioner(), harness.spec()
    volume = volume_of(harness, "r-1", storage_class=harness.instance)
    await provisioner.ensure(replace(spec, volume=volume), ignore)
    await provisioner.remove(spec.key, keep=True)
    (before,) = await claims(harness)

    changed = replace(volume, storage_class="nobody-has-it", access_mode="ReadWriteMany")
    made = await provisioner.ensure(replace(spec, volume=changed), ignore)

    (claim,) = await claims(harness)
    assert (claim.metadata.uid, claim.spec.storage_class_name) == (before.metadata.uid, harness.instance)
    assert made.notes == ()


@pytest.mark.parametrize(
    ("user", "group", "of_volume"), [("1000:100", 100, 100), ("1001:0", 0, 0), ("1001", None, 1001)]
)
async def test_the_group_of_a_volume_is_the_templates(
    harness: KubernetesHarness, user: str, group: int | None, of_volume: int
) -> None:
    await harness.storage()
    provisioner = harness.provisioner_with(storage_class=harness.instance)
    spec = harness.spec(volume=volume_of(harness, "r-1"), security=Security(user=user))

    context = (await harness.pod(await provisioner.ensure(spec, ignore)))["spec"]["securityContext"]

    assert (context["runAsUser"], context.get("runAsGroup")) == (int(user.split(":")[0]), group)
    assert context["fsGroup"] == of_volume
