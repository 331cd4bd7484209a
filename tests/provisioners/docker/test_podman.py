"""What is Podman's own: its words for what went wrong, where it listens, and who is not taken for whom."""

import asyncio
import os
from pathlib import Path

import pytest

from consumer.catalog.environment import Limits, Port
from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Status
from consumer.parts import provisioners_of
from consumer.provisioners.docker import DOCKER, PODMAN, DockerOptions, DockerProvisioner
from consumer.settings import Settings
from tests.provisioners.docker.harness import DockerHarness, on_both, on_each, on_podman
from tests.provisioners.docker.proxy import EngineProxy
from tests.provisioners.harness import WEB_PORT, fetch, ignore

pytestmark = pytest.mark.podman

CREATE, START = r"POST \S+/containers/create", r"POST \S+/start"
IN_USE = (
    'container create: creating container storage: the container name "r-alice" is already in use by c0ffee. '
    "You have to remove that container to be able to reuse that name: that name is already in use"
)
NO_SUCH_PROGRAM = (
    "crun: executable file `no-such-program` not found in $PATH: No such file or directory: "
    "OCI runtime attempted to invoke a command that was not found"
)
TOO_MANY = (
    "runc: runc create failed: unable to start container process: error during container init: error setting rlimits "
    "for ready process: error setting rlimit type 7: operation not permitted: OCI permission denied"
)


@on_podman
@pytest.mark.parametrize(
    ("asked", "status", "message", "expected", "code"),
    [
        (CREATE, 500, IN_USE, Transient, "runtime_busy"),
        (CREATE, 409, IN_USE, Transient, "runtime_busy"),  # Podman 5
        (CREATE, 500, "unable to find network with name or ID moorage: network not found", Permanent, "invalid_spec"),
        (
            CREATE,
            500,
            "container create: container-init binary not found on the host: stat /usr/libexec/podman/catatonit: gone",
            Permanent,
            "invalid_spec",
        ),
        (CREATE, 500, "mkdir /var/lib/containers/x: no space left on device", Transient, "runtime_full"),
        (START, 500, "rootlessport listen tcp 127.0.0.1:80: bind: address already in use", Transient, "port_taken"),
        (
            START,
            500,
            "cannot listen on the TCP port: listen tcp4 :80: bind: address already in use",
            Transient,
            "port_taken",
        ),
        (START, 500, TOO_MANY, Permanent, "invalid_spec"),
        (START, 500, NO_SUCH_PROGRAM, Permanent, "exited_at_start"),
        (START, 500, "unable to start container c0ffee: container state improper", Transient, "runtime_busy"),
        (START, 404, 'no container with name or ID "c0ffee" found: no such container', Transient, "runtime_error"),
        (START, 500, "something else entirely", Transient, "runtime_error"),
    ],
)
async def test_each_answer_has_its_meaning(
    harness: DockerHarness,
    proxy: EngineProxy,
    asked: str,
    status: int,
    message: str,
    expected: type[ProvisionerError],
    code: str,
) -> None:
    proxy.answer(asked, status, message, times=100)
    patience = 5.0 if message is IN_USE else 60.0  # until a name that is taken is given up

    with pytest.raises(expected) as error:
        await harness.provisioner_with(url=proxy.url, create_timeout=patience).ensure(harness.spec(), ignore)

    assert error.value.code == code
    assert "/var/lib" not in error.value.message


@on_podman
@pytest.mark.parametrize(("host", "refused", "made"), [(None, 1, 2), (None, 2, 3), (None, 3, None), (40_000, 1, None)])
async def test_a_port_that_the_engine_chose_in_vain_is_chosen_again(
    harness: DockerHarness, proxy: EngineProxy, host: int | None, refused: int, made: int | None
) -> None:
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec(ports=(Port(WEB_PORT, host=host),))
    proxy.answer(START, 500, "cannot listen on the TCP port: bind: address already in use", times=refused)

    if made is None:
        with pytest.raises(Transient) as error:
            await provisioner.ensure(spec, ignore)
        assert error.value.code == "port_taken"
        assert await harness.leftovers() == []
    else:
        assert (await provisioner.ensure(spec, ignore)).status is Status.RUNNING
        assert proxy.count(CREATE) == made


@on_each
async def test_an_environment_comes_up_answers_and_goes(harness: DockerHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()

    made = await provisioner.ensure(spec, ignore)

    assert (made.status, made.runtime, made.image) == (Status.RUNNING, harness.dialect.runtime, spec.image)
    assert await fetch(f"{made.access.url}/env.txt")
    assert await provisioner.find(spec.key) == made
    assert await provisioner.remove(spec.key) is True
    assert await provisioner.list() == []


@on_each
async def test_limits_that_would_be_ignored_are_refused_where_a_template_insists(harness: DockerHarness) -> None:
    info = await harness.docker.system.info()
    ignores = "name=rootless" in info["SecurityOptions"] and info["CgroupVersion"] == "1"
    spec = harness.spec(limits=Limits(cpu_millis=500, memory_bytes=64 << 20), must_enforce=True)

    making = harness.provisioner().ensure(spec, ignore)

    if not ignores:
        assert (await making).status is Status.RUNNING
        return
    with pytest.raises(Permanent, match="Podman cannot limit CPU and memory here") as error:
        await making
    assert error.value.code == "limit_not_enforceable"
    assert await harness.leftovers() == []


@on_both
async def test_another_engine_than_expected_is_told_and_given_nothing_to_do(harness: DockerHarness) -> None:
    other = PODMAN if harness.dialect is DOCKER else DOCKER
    provisioner, spec = harness.provisioner_with(dialect=other), harness.spec()

    for call in (provisioner.ping(), provisioner.ensure(spec, ignore), provisioner.list()):
        with pytest.raises(Unavailable) as error:
            await call
        assert error.value.message == (
            f"{harness.dialect.subject} answers where {other.engine} is expected; "
            f"its runtime is {harness.dialect.runtime}."
        )


@on_both
async def test_many_first_requests_greet_the_engine_once(harness: DockerHarness, proxy: EngineProxy) -> None:
    provisioner = harness.provisioner_with(url=proxy.url)

    await asyncio.gather(*(provisioner.list() for _ in range(20)))

    assert (proxy.count("/_ping"), proxy.count("/version")) == (1, 0)


@on_both
async def test_a_greeting_that_failed_is_tried_again(harness: DockerHarness, proxy: EngineProxy) -> None:
    provisioner = harness.provisioner_with(url=proxy.url)
    proxy.on("/_ping", "refuse", times=2)  # the client tries each twice
    with pytest.raises(Unavailable, match="reached"):
        await provisioner.list()

    assert await provisioner.list() == []


class TestAddress:
    def test_root_uses_the_machines_podman(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

        assert PODMAN.usual_url() == "unix:///run/podman/podman.sock"

    def test_others_use_their_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        (tmp_path / "podman").mkdir()
        (tmp_path / "podman" / "podman.sock").touch()

        assert PODMAN.usual_url() == f"unix://{tmp_path}/podman/podman.sock"

    def test_the_docker_engine_is_for_its_client_to_find(self) -> None:
        assert DOCKER.usual_url() is None

    @pytest.mark.parametrize("runtime", ["docker", "podman"])
    async def test_each_runtime_has_its_setting(self, runtime: str, tmp_path: Path) -> None:
        settings = Settings(docker_host=f"unix://{tmp_path}/docker", podman_host=f"unix://{tmp_path}/podman")

        provisioner = provisioners_of(settings, frozenset({runtime}))[runtime]

        assert isinstance(provisioner, DockerProvisioner)
        assert provisioner.runtime == runtime
        assert provisioner._options.url == f"unix://{tmp_path}/{runtime}"

    async def test_without_a_podman_it_is_unavailable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        provisioner = DockerProvisioner(DockerOptions("x", dialect=PODMAN, url=f"unix://{tmp_path}/podman/podman.sock"))

        with pytest.raises(Unavailable, match="Podman cannot be reached"):
            await provisioner.ping()
        await provisioner.close()
