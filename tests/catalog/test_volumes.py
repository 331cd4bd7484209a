"""Volumes, devices and entrypoints: whose they are, and what makes an environment another one."""

from dataclasses import replace

import pytest

from consumer.catalog.environment import Volume
from consumer.catalog.identity import KEY
from consumer.catalog.templates import Catalog
from schemas.events import User
from tests.catalog.reservations import MARIO, reservation, resolved

USERS = "volume: {path: /home/student, scope: user}"
ITS_OWN = "volume: {path: /data}"


def volume(keys: str, reservation_id: str = "1841", user: User = MARIO, template: str = "lab") -> Volume:
    text = f"{{version: 1, templates: [{{name: {template}, runtime: docker, image: nginx, {keys}}}]}}"
    state = reservation(reservation_id=reservation_id, user=user)
    found = Catalog.from_yaml(text, instance="test").resolve(state).volume
    assert found is not None
    return found


def test_a_reservations_volume_goes_with_it_and_a_users_stays_unless_said_otherwise() -> None:
    assert volume(ITS_OWN).labels["moorage/reclaim"] == "delete"
    assert volume("volume: {path: /data, reclaim: retain}").labels["moorage/reclaim"] == "retain"
    assert volume(USERS).labels["moorage/reclaim"] == "retain"


def test_a_users_volume_is_the_same_in_all_their_reservations() -> None:
    assert volume(USERS, "1841") == volume(USERS, "1842")
    assert KEY not in volume(USERS).labels


def test_it_is_found_again_when_the_platform_leaves_out_the_users_name() -> None:
    assert volume(USERS, user=User(MARIO.id)).name == volume(USERS).name


def test_nobody_elses_reservation_or_template_has_it() -> None:
    another = replace(MARIO, id="6a", name=MARIO.name)
    found = [
        volume(USERS),
        volume(USERS, user=another),
        volume(USERS, template="other"),
        volume("volume: {path: /home/student, scope: user, name: shared}"),
        volume(ITS_OWN),
        volume(ITS_OWN, "1842"),
        volume(ITS_OWN, user=another),
    ]

    assert len({each.name for each in found}) == len({each.key for each in found}) == len(found)


def test_templates_share_a_users_volume_by_its_name() -> None:
    named = "volume: {path: /home/student, scope: user, name: home}"

    assert volume(named).name == volume(named, template="other").name


def test_its_name_is_fit_for_an_engine() -> None:
    found = volume(USERS, user=User("Ä/../\x00 \ud800" * 20))

    assert len(found.name) <= 40
    assert found.name.isascii()
    assert set(found.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_size_is_in_bytes() -> None:
    assert volume("volume: {path: /data, size: 5Gi}").size_bytes == 5 * 1024**3


def test_a_cluster_is_told_what_kind_it_is_to_be() -> None:
    text = "runtime: kubernetes, volume: {path: /data, storage_class: fast.ssd, access_mode: ReadWriteMany}"

    kinds = [(found.storage_class, found.access_mode) for found in (resolved(text).volume, volume(ITS_OWN)) if found]

    assert kinds == [("fast.ssd", "ReadWriteMany"), (None, None)]


@pytest.mark.parametrize(
    ("template", "changes"),
    [
        ("", "volume: {path: /data}"),
        ("volume: {path: /data}", "volume: {path: /srv}"),
        ("volume: {path: /data}", "volume: {path: /data, scope: user}"),
        ("", "gpus: all"),
        ("gpus: 1", "gpus: 2"),
        ("", "devices: [nvidia.com/gpu=0]"),
        ("", "entrypoint: [sh]"),
        ("entrypoint: [sh]", "command: [sh]"),
    ],
)
def test_what_an_environment_is_made_of_makes_it_another(template: str, changes: str) -> None:
    assert resolved(template).spec_hash != resolved(changes).spec_hash


@pytest.mark.parametrize(
    ("template", "same"),
    [
        ("volume: {path: /data}", "volume: {path: /data, reclaim: retain, size: 1Gi}"),
        ("", "on_unenforceable: refuse"),
        (
            "runtime: kubernetes, volume: {path: /data}",
            "runtime: kubernetes, volume: {path: /data, storage_class: fast, access_mode: ReadWriteMany}",
        ),
    ],
)
def test_policies_about_it_do_not(template: str, same: str) -> None:
    assert resolved(template).spec_hash == resolved(same).spec_hash


def test_limits_must_be_enforced_where_the_template_insists() -> None:
    assert resolved("on_unenforceable: refuse").must_enforce
    assert not resolved().must_enforce


def test_devices_are_passed_on() -> None:
    spec = resolved("gpus: 2, devices: [nvidia.com/gpu=0, amd.com/gpu=all], entrypoint: [run, it]")

    assert (spec.gpus, spec.devices) == (2, ("nvidia.com/gpu=0", "amd.com/gpu=all"))
    assert spec.entrypoint == ("run", "it")
    assert resolved("gpus: ALL").gpus == "all"
