"""Who is let in by SSH: the user's own key, to the account that the template names, or a word on why not."""

from dataclasses import replace

import pytest

from consumer.catalog.ssh_keys import Login, read_public_key
from tests.catalog.reservations import MARIO, catalog, refusal, reservation, resolved

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN4nvTtw3tEjf9D1JkZPnTsikTngiOf6QgRYrkGcgdzC mario@laptop"
WITH_KEY = replace(MARIO, ssh_public_key=f"  {KEY}\n")
SSH = "access: {ssh: 22, ssh_user: student}"


def test_a_key_goes_to_the_account_of_the_template() -> None:
    spec = resolved(SSH, user=WITH_KEY)

    assert spec.login == Login(read_public_key(KEY), "student")
    assert spec.login.key.line == KEY
    assert spec.notes == ()


def test_home_and_owner_can_be_said() -> None:
    access = "access: {ssh: 22, ssh_user: ann, ssh_home: /srv/ann/, ssh_owner: '1000:100', ssh_key: required}"
    login = resolved(access, user=WITH_KEY).login

    assert login is not None
    assert (login.home, login.owner, login.required) == ("/srv/ann", (1000, 100), True)


def test_an_owner_without_a_group_is_its_own() -> None:
    login = resolved("access: {ssh: 22, ssh_user: ann, ssh_owner: 1000}", user=WITH_KEY).login

    assert login is not None
    assert login.owner == (1000, 1000)


@pytest.mark.parametrize("template", ["access: {ssh: 22}", "access: {ssh: 22, ssh_user: student, ssh_key: none}", ""])
def test_without_an_account_or_a_wish_nothing_is_installed_and_nothing_is_said(template: str) -> None:
    spec = resolved(template, user=replace(MARIO, ssh_public_key="nonsense"))

    assert (spec.login, spec.notes) == (None, ())


def test_a_runtime_that_installs_no_keys_says_nothing_of_them() -> None:
    spec = resolved(f"runtime: process, image: nginx, {SSH}", user=WITH_KEY)

    assert (spec.login, spec.notes) == (None, ())


@pytest.mark.parametrize(
    ("key", "note"),
    [
        (None, "No SSH public key of yours is known, so none was installed: add one to your profile."),
        (" \n", "No SSH public key of yours is known, so none was installed: add one to your profile."),
        ("ssh-dss AAAA", "Your SSH key was not installed, because it is a DSA key"),
        ("\x1b[31mhello", "Your SSH key was not installed, because it does not begin"),
    ],
)
def test_without_a_usable_key_the_environment_runs_and_the_user_is_told(key: str | None, note: str) -> None:
    spec = resolved(SSH, user=replace(MARIO, ssh_public_key=key))

    assert spec.login is None
    assert spec.notes[0].startswith(note)
    assert spec.notes[0].isprintable()


@pytest.mark.parametrize(
    ("key", "code"), [(None, "ssh_key_missing"), ("", "ssh_key_missing"), ("ssh-rsa AAAA", "ssh_key_invalid")]
)
def test_where_the_key_is_required_the_reservation_is_refused_without_one(key: str | None, code: str) -> None:
    template = catalog("access: {ssh: 22, ssh_user: student, ssh_key: required}")
    state = reservation(user=replace(MARIO, ssh_public_key=key))

    assert refusal(lambda: template.resolve(state)).code == code


def test_another_key_is_no_other_environment() -> None:
    other = replace(MARIO, ssh_public_key=KEY.replace("AAAAIN4n", "AAAAIN5n"))

    hashes = {resolved(SSH, user=user).spec_hash for user in (MARIO, WITH_KEY, other)}

    assert len(hashes) == 1
