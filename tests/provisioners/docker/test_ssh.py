"""A user's key opens their environment, and nobody else's does: with OpenSSH's own server and client."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumer.catalog.environment import AccessHints, EnvironmentSpec, Port
from consumer.catalog.security import Security
from consumer.catalog.ssh_keys import Login, read_public_key
from consumer.handling.errors import Permanent
from consumer.provisioners.docker.archives import Account
from consumer.provisioners.docker.keys import account_in
from tests.provisioners.docker.harness import DockerHarness, shell
from tests.provisioners.harness import ignore
from tests.services import DockerEngine, ServiceMissing
from tests.services.ssh import SSH_PORT, SSHD, KeyPair, log_in, prepare_ssh_image

pytestmark = pytest.mark.docker

KEY = read_public_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN4nvTtw3tEjf9D1JkZPnTsikTngiOf6QgRYrkGcgdzC mario@laptop")
STUDENT = Login(KEY, "student")
LOOK = shell(
    "stat -c '%n %a %u %g' /home/*/.ssh /home/*/.ssh/* /root/.ssh/* 2>/dev/null; cat /home/*/.ssh/*; sleep 1000"
)


@pytest.fixture(scope="module")
def ssh_image(docker_engine: DockerEngine) -> str:
    try:
        return prepare_ssh_image(docker_engine.url)
    except ServiceMissing as missing:
        from tests.conftest import without

        without(missing)


@pytest.fixture
def ours(tmp_path: Path) -> KeyPair:
    return KeyPair.make(tmp_path / "ours")


def with_sshd(harness: DockerHarness, image: str, key: KeyPair, **changes: Any) -> EnvironmentSpec:
    access = AccessHints(ssh_port=SSH_PORT, ssh_user="student")
    login = Login(read_public_key(key.public), "student")
    needed = Security(capabilities=("AUDIT_WRITE", "CHOWN", "SETGID", "SETUID", "SYS_CHROOT"))  # as the docs say
    spec = harness.spec(image=image, command=SSHD, ports=(Port(SSH_PORT),), access=access, login=login, security=needed)
    return replace(spec, **changes)


class TestLogin:
    @pytest.mark.parametrize("kind", ["-t ed25519", "-t ecdsa -b 384", "-t rsa -b 2048"])
    async def test_the_line_that_users_are_told_lets_them_in(
        self, harness: DockerHarness, ssh_image: str, tmp_path: Path, kind: str
    ) -> None:
        key = await asyncio.to_thread(KeyPair.make, tmp_path / "id", kind)

        made = await harness.provisioner().ensure(with_sshd(harness, ssh_image, key), ignore)

        assert made.notes == ()
        assert made.access.ssh is not None
        assert (await log_in(made.access.ssh, key, "id -un; pwd"))[:2] == (0, "student\n/home/student\n")

    async def test_another_key_or_a_password_does_not(
        self, harness: DockerHarness, ssh_image: str, ours: KeyPair, tmp_path: Path
    ) -> None:
        made = await harness.provisioner().ensure(with_sshd(harness, ssh_image, ours), ignore)
        assert made.access.ssh is not None
        theirs = await asyncio.to_thread(KeyPair.make, tmp_path / "theirs")

        for key in (theirs, None):
            code, output, said = await log_in(made.access.ssh, key, "id")

            assert (code, output) == (255, "")
            assert "Permission denied (publickey)" in said

    async def test_it_goes_on_after_the_container_was_stopped_and_started(
        self, harness: DockerHarness, ssh_image: str, ours: KeyPair
    ) -> None:
        provisioner, spec = harness.provisioner(), with_sshd(harness, ssh_image, ours)
        made = await provisioner.ensure(spec, ignore)
        await harness.stop(made)

        # By then the event may have come without what the platform failed to look up.
        again = await provisioner.ensure(replace(spec, login=None), ignore)

        assert again.access.ssh is not None
        assert (await log_in(again.access.ssh, ours, "true"))[0] == 0

    async def test_a_running_environment_keeps_the_key_it_began_with(
        self, harness: DockerHarness, ssh_image: str, ours: KeyPair, tmp_path: Path
    ) -> None:
        provisioner = harness.provisioner()
        made = await provisioner.ensure(with_sshd(harness, ssh_image, ours), ignore)
        new = await asyncio.to_thread(KeyPair.make, tmp_path / "new")

        again = await provisioner.ensure(with_sshd(harness, ssh_image, new), ignore)

        assert (again.native_id, again.access.ssh) == (made.native_id, made.access.ssh)
        assert again.access.ssh is not None
        assert (await log_in(again.access.ssh, ours, "true"))[0] == 0
        assert (await log_in(again.access.ssh, new, "true"))[0] == 255

    async def test_one_that_was_created_by_a_moorage_that_died_gets_its_key_before_it_starts(
        self, harness: DockerHarness, ssh_image: str, ours: KeyPair
    ) -> None:
        provisioner, spec = harness.provisioner(), with_sshd(harness, ssh_image, ours)
        made = await provisioner.ensure(replace(spec, login=None), ignore)
        shown = await harness.inspect(made)
        await provisioner.remove(spec.key)
        config = {"Image": ssh_image, "Cmd": list(SSHD), "Labels": shown["Config"]["Labels"]}
        config["ExposedPorts"] = {f"{SSH_PORT}/tcp": {}}
        config["HostConfig"] = {"PortBindings": {f"{SSH_PORT}/tcp": [{"HostIp": "127.0.0.1"}]}}
        await harness.docker.containers.create(config, name=spec.name)

        again = await provisioner.ensure(spec, ignore)

        assert again.access.ssh is not None
        assert (await log_in(again.access.ssh, ours, "true"))[0] == 0


class TestFiles:
    async def seen(self, harness: DockerHarness, image: str, login: Login) -> list[str]:
        curious = Security(capabilities=("DAC_OVERRIDE",))  # without, root itself sees nothing of others' files
        spec = harness.spec(image=image, command=LOOK, login=login, security=curious)
        made = await harness.provisioner().ensure(spec, ignore)
        assert made.notes == ()
        container = harness.docker.containers.container(made.native_id)
        lines = []
        async for line in container.log(stdout=True, follow=True):
            lines.append(line.strip())
            if line.startswith("ssh-"):
                break
        return lines

    async def test_they_belong_to_the_account_and_to_nobody_else(self, harness: DockerHarness, ssh_image: str) -> None:
        assert await self.seen(harness, ssh_image, STUDENT) == [
            "/home/student/.ssh 700 1000 1000",
            "/home/student/.ssh/authorized_keys 600 1000 1000",
            KEY.line,
        ]

    async def test_what_the_template_says_goes_before_what_the_image_says(
        self, harness: DockerHarness, ssh_image: str
    ) -> None:
        assert await self.seen(harness, ssh_image, replace(STUDENT, home="/home/lab", owner=(1000, 100))) == [
            "/home/lab/.ssh 700 1000 100",
            "/home/lab/.ssh/authorized_keys 600 1000 100",
            KEY.line,
        ]

    async def test_an_account_that_only_the_template_knows_gets_a_home(self, harness: DockerHarness) -> None:
        login = Login(KEY, "ann", home="/home/ann", owner=(2000, 2000))
        assert (await self.seen(harness, harness.image, login))[:2] == [
            "/home/ann/.ssh 700 2000 2000",
            "/home/ann/.ssh/authorized_keys 600 2000 2000",
        ]


class TestNotInstalled:
    async def test_an_account_that_the_image_lacks_is_told_and_the_environment_runs(
        self, harness: DockerHarness
    ) -> None:
        made = await harness.provisioner().ensure(harness.spec(login=STUDENT), ignore)

        assert made.notes == ("Your SSH key was not installed: the image has no account student.",)

    async def test_where_the_key_is_required_the_environment_fails_and_leaves_nothing(
        self, harness: DockerHarness
    ) -> None:
        with pytest.raises(Permanent, match="no account student") as error:
            await harness.provisioner().ensure(harness.spec(login=replace(STUDENT, required=True)), ignore)

        assert error.value.code == "ssh_key_not_installed"
        assert await harness.leftovers() == []

    async def test_files_that_nobody_can_write_are_told(
        self, harness: DockerHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "consumer.provisioners.docker.container.attachments", lambda _: {"ReadonlyRootfs": True}, raising=True
        )
        root = harness.spec(login=Login(KEY, "root"), command=shell("sleep 100"))

        made = await harness.provisioner().ensure(root, ignore)

        assert made.notes == ("Your SSH key was not installed: the environment's files are read-only there.",)


class TestAccounts:
    PASSWD = "root:x:0:0:root:/root:/bin/sh\nann:x:7:8::/home/ann:/bin/sh\nann:x:9:9::/elsewhere:/bin/sh\n"

    def test_the_first_entry_counts(self) -> None:
        assert account_in(self.PASSWD, "ann") == Account("/home/ann", 7, 8)

    @pytest.mark.parametrize(
        "entry",
        [
            "",
            "bob",
            "bob:x:7:8::/home/bob",
            "bob:x:-1:8::/home/bob:/bin/sh",
            "bob:x:²:8::/home/bob:/bin/sh",
            "bob:x:7:99999999999999999999::/home/bob:/bin/sh",
            "bob:x:7:8::relative:/bin/sh",
            "bob:x:7:8::/home/\x1b[1m:/bin/sh",
            "bobby:x:7:8::/home/bob:/bin/sh",
        ],
    )
    def test_what_is_no_account_is_none(self, entry: str) -> None:
        assert account_in(f"{self.PASSWD}{entry}\n", "bob") is None
