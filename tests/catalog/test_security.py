"""`security:` in templates: what operators may say of it, and that nobody else has a say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.errors import CatalogError, Refused
from consumer.catalog.security import CAPABILITIES, Security
from consumer.catalog.templates import Catalog, Defaults
from tests.catalog.reservations import catalog, reservation

MIB = 1024**2


def security(written: str) -> Security:
    return catalog(f"security: {written}").resolve(reservation()).security


def problem(written: str, runtime: str = "docker") -> str:
    text = f"version: 1\ntemplates:\n  - name: x\n    runtime: {runtime}\n    image: nginx\n    security: {written}\n"
    with pytest.raises(CatalogError) as caught:
        Catalog.from_yaml(text, instance="test")
    (only,) = caught.value.problems
    return only


def test_without_the_section_nothing_is_given_back() -> None:
    assert catalog("overrides: []").resolve(reservation()).security == Security()
    assert security("{}") == Security()


def test_what_is_written_is_what_is_meant() -> None:
    written = (
        '{user: "1000:100", capabilities: [cap_setuid, CHOWN, chown], new_privileges: true, read_only: true,'
        " tmpfs: {/run: 1Mi, /var/cache/nginx: 16Mi}, pids: 99, open_files: 65536}"
    )
    assert security(written) == Security(
        user="1000:100",
        capabilities=("CHOWN", "SETUID"),
        new_privileges=True,
        read_only=True,
        tmpfs={"/run": MIB, "/var/cache/nginx": 16 * MIB},
        pids=99,
        open_files=65536,
    )


def test_a_read_only_container_can_write_to_tmp_unless_it_is_told_otherwise() -> None:
    assert security("{read_only: true}").tmpfs == {"/tmp": 64 * MIB}
    assert security("{read_only: true, tmpfs: {}}").tmpfs == {}
    assert security("{tmpfs: {/data: 1Mi}}").tmpfs == {"/data": MIB}


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{user: root}", '"root" is none of image, non-root and a number'),
        ("{user: nonroot}", "non-root"),
        ("{user: 4294967295}", "larger than any user's number"),
        ("{capabilities: [SYS_ADMIN]}", '"SYS_ADMIN" cannot be given back'),
        ("{capabilities: [ALL]}", "cannot be given back"),
        ("{capabilities: [NET_RAW]}", "AUDIT_WRITE, CHOWN"),
        ("{capabilities: [SYS_CHROTT]}", "SYS_CHROOT"),
        ("{capabilities: CHOWN}", "is not a list"),
        ("{tmpfs: {tmp: 1Mi}}", "not a plain absolute path"),
        ("{tmpfs: {/: 1Mi}}", "not a plain absolute path"),
        ("{tmpfs: {/a/../proc: 1Mi}}", "not a plain absolute path"),
        ('{tmpfs: {"/a,exec": 1Mi}}', "not a plain absolute path"),
        ('{tmpfs: {"/a:exec": 1Mi}}', "not a plain absolute path"),
        ("{tmpfs: {/proc: 1Mi}}", "belongs to the system"),
        ("{tmpfs: {/dev/shm: 1Mi}}", "belongs to the system"),
        ("{tmpfs: {/tmp: unlimited}}", "cannot be unlimited"),
        ("{tmpfs: {/tmp: lots}}", "is not a quantity"),
        ("{pids: 0}", "greater than or equal to 8"),
        ("{pids: many}", "valid integer"),
        ("{open_files: 99999999}", "less than or equal to 1048576"),
        ("{privileged: true}", "privileged"),
        ("{read_only: perhaps}", "boolean"),
    ],
)
def test_what_is_wrong_is_named(written: str, says: str) -> None:
    assert says in problem(written)


@pytest.mark.parametrize("runtime", ["process", "libvirt"])
def test_what_has_no_containers_cannot_be_told(runtime: str) -> None:
    assert f"is for containers, and {runtime} has none" in problem("{read_only: true}", runtime)


def test_without_a_template_file_the_default_image_gets_what_it_needs_to_leave_root() -> None:
    defaults = Defaults(capabilities=("SETUID", "CHOWN"))
    spec = Catalog.from_defaults(defaults, instance="test").resolve(reservation())

    assert spec.security == Security(capabilities=("CHOWN", "SETUID"))


def test_processes_have_no_capabilities_to_give_back() -> None:
    defaults = Defaults(runtime="process", capabilities=("CHOWN",))
    assert Catalog.from_defaults(defaults, instance="test").resolve(reservation()).security == Security()


def test_other_security_is_another_environment() -> None:
    loose, tight = (
        catalog(f"security: {{capabilities: [{names}]}}").resolve(reservation()) for names in ("CHOWN, KILL", "KILL")
    )
    same = catalog("security: {capabilities: [KILL, CHOWN]}").resolve(reservation())

    assert loose.spec_hash != tight.spec_hash
    assert loose.spec_hash == same.spec_hash


_WISHES = ["privileged", "cap_add", "capabilities", "user", "binds", "volumes", "security", "network_mode", "pid_mode"]


@given(
    st.dictionaries(st.sampled_from(_WISHES), st.text(max_size=20) | st.sampled_from([*CAPABILITIES, "true", "/:/"]))
)
def test_no_event_has_a_say_in_it(wishes: dict[str, str]) -> None:
    decided = catalog("security: {capabilities: [KILL]}")
    try:
        spec = decided.resolve(reservation(wishes))
    except Refused:
        return
    assert spec.security == Security(capabilities=("KILL",))
