"""What a template gives back and nothing else reaches the engine; images that run as root are told from others."""

import pytest

from consumer.catalog.security import CAPABILITIES, NON_ROOT, Security
from consumer.handling.errors import Permanent
from consumer.provisioners.docker import DockerOptions
from consumer.provisioners.docker.container import creation
from consumer.provisioners.docker.hardening import confines_system_calls, refuse_root, restrictions
from consumer.provisioners.docker.images import Content
from tests.provisioners.docker.harness import DockerHarness
from tests.provisioners.harness import ignore

OPTIONS = DockerOptions("x")
CONTENT = Content("nginx")


@pytest.fixture
async def plain() -> DockerHarness:
    return DockerHarness("unix:///nonexistent", "nginx")


async def test_without_a_word_everything_is_taken_away(plain: DockerHarness) -> None:
    host = restrictions(plain.spec(), OPTIONS)

    assert (host["CapDrop"], host["CapAdd"], host["SecurityOpt"]) == (["ALL"], [], ["no-new-privileges"])
    assert host["PidsLimit"] == 512
    assert host["Ulimits"] == [
        {"Name": "nofile", "Soft": 4096, "Hard": 4096},
        {"Name": "core", "Soft": 0, "Hard": 0},
    ]
    assert not {"ReadonlyRootfs", "Tmpfs", "Privileged", "Binds", "Mounts", "PidMode", "UsernsMode"} & host.keys()
    await plain.docker.close()


async def test_what_the_template_says_holds(plain: DockerHarness) -> None:
    security = Security(
        user="1000:5",
        capabilities=("CHOWN", "SETUID"),
        new_privileges=True,
        read_only=True,
        tmpfs={"/run": 4096},
        pids=20,
        open_files=100,
    )
    body = creation(plain.spec(security=security), CONTENT, OPTIONS, with_storage_limit=False)
    host = body["HostConfig"]

    assert body["User"] == "1000:5"
    assert (host["CapDrop"], host["CapAdd"], host["SecurityOpt"]) == (["ALL"], ["CHOWN", "SETUID"], [])
    assert host["ReadonlyRootfs"] is True
    assert host["Tmpfs"] == {"/run": "rw,noexec,nosuid,nodev,mode=1777,size=4096"}
    assert host["PidsLimit"] == 20
    assert host["Ulimits"][0] == {"Name": "nofile", "Soft": 100, "Hard": 100}
    await plain.docker.close()


def test_what_can_be_given_back_opens_no_way_out() -> None:
    ways_out = {"SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "SYS_BOOT", "SYS_TIME", "NET_ADMIN", "NET_RAW"}
    ways_out |= {"DAC_READ_SEARCH", "MKNOD", "BPF", "PERFMON", "SYSLOG", "SETFCAP", "SETPCAP", "MAC_ADMIN", "ALL"}

    assert not CAPABILITIES.keys() & ways_out


@pytest.mark.parametrize("user", ["", "0", "0:0", "00", "root", ":5", "student", "student:1000", "-1", "+0"])
async def test_who_may_be_root_is_refused(plain: DockerHarness, user: str) -> None:
    with pytest.raises(Permanent) as error:
        refuse_root(plain.spec(security=Security(user=NON_ROOT)), user)

    assert error.value.code == "image_runs_as_root"
    refuse_root(plain.spec(), user)  # nobody asked
    await plain.docker.close()


@pytest.mark.parametrize("user", ["1", "101", "1000:0"])
async def test_who_is_not_root_runs(plain: DockerHarness, user: str) -> None:
    refuse_root(plain.spec(security=Security(user=NON_ROOT)), user)
    await plain.docker.close()


def test_an_engine_is_taken_at_its_word() -> None:
    assert confines_system_calls({"SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"]})
    assert confines_system_calls({"SecurityOptions": ["name=seccomp,profile=/etc/docker/stricter.json"]})
    assert not confines_system_calls({"SecurityOptions": ["name=seccomp,profile=unconfined"]})
    assert not confines_system_calls({"SecurityOptions": None})


@pytest.mark.docker
class TestNonRoot:
    async def test_an_image_of_root_never_runs(self, harness: DockerHarness) -> None:
        security = Security(user=NON_ROOT)
        with pytest.raises(Permanent) as error:
            await harness.provisioner().ensure(harness.spec(security=security), ignore)

        assert error.value.code == "image_runs_as_root"
        assert await harness.leftovers() == []

    async def test_one_that_was_made_and_never_checked_does_not_run_either(self, harness: DockerHarness) -> None:
        spec = harness.spec(security=Security(user=NON_ROOT))
        body = creation(spec, Content(harness.image), harness.options(harness.instance), with_storage_limit=False)
        container = await harness.docker.containers.create(body, name=spec.name)

        with pytest.raises(Permanent):
            await harness.provisioner().ensure(spec, ignore)

        assert (await container.show())["State"]["Status"] == "created"

    async def test_an_image_of_somebody_else_runs(self, harness: DockerHarness) -> None:
        name = f"moorage/nobody:{harness.instance}"
        container = await harness.docker.containers.create({"Image": harness.image, "User": "65534", "Cmd": ["true"]})
        repository, tag = name.split(":")
        await container.commit(repository=repository, tag=tag)
        await container.delete()
        try:
            spec = harness.spec(image=name, command=("sleep", "100"), security=Security(user=NON_ROOT))
            made = await harness.provisioner().ensure(spec, ignore)
            shown = await harness.inspect(made)
            await harness.provisioner().remove(spec.key)
        finally:
            await harness.docker.images.delete(name, force=True)

        assert shown["Config"]["User"] == "65534"
