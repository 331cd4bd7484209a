"""What a kubelet makes of our pods: programs that run, answer, end, and are kept in their place."""

import asyncio
from asyncio.subprocess import DEVNULL
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest

from consumer.catalog.environment import EnvironmentSpec, Limits, Port, Readiness
from consumer.catalog.environment import Kubernetes as Wanted
from consumer.catalog.security import Security
from consumer.catalog.ssh_keys import Login, read_public_key
from consumer.handling.errors import Permanent
from consumer.handling.ports import Provisioner, Status
from consumer.provisioners.kubernetes import KubernetesProvisioner
from tests.provisioners.harness import WEB_PORT, fetch, ignore
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tests.services import Kubernetes
from tests.services.kubectl import path_of_kubectl
from tests.services.ports import free_port

pytestmark = [pytest.mark.kubelet, pytest.mark.timeout(120)]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann"
SERVES = "cd /tmp; env > env.txt; id > id.txt; printf '%s\\n' \"$@\" > words.txt; exec httpd -f -p 8080 -h /tmp"


def shell(script: str, *words: str) -> tuple[str, ...]:
    return ("sh", "-c", script, "sh", *words)


@pytest.fixture
def provisioner(nodes: KubernetesHarness) -> Provisioner:
    return nodes.provisioner_with(stop_timeout=1, settle=1.0)


def spec_of(nodes: KubernetesHarness, reservation: str = "r-1", **changes: Any) -> EnvironmentSpec:
    usual = {"command": shell(SERVES), "security": Security(user="1000:1000"), "ready": Readiness(port=WEB_PORT)}
    return nodes.spec(reservation, **(usual | changes))


async def test_a_program_is_reached_with_all_that_it_was_given(
    nodes: KubernetesHarness, provisioner: Provisioner
) -> None:
    wanted = {"PLAIN": "1", "SPACES": " a  b ", "QUOTES": "\"'`$(HOME)\\", "UMLAUT": "grün ☃"}
    login = Login(read_public_key(KEY), "student")
    spec = spec_of(
        nodes,
        environment=wanted,
        command=shell(SERVES, "$(PLAIN)", "$PLAIN"),
        login=login,
        ready=Readiness(8080, "/env.txt"),
    )

    made = await provisioner.ensure(spec, ignore)

    url = made.access.url
    variables = dict(line.partition("=")[::2] for line in (await fetch(f"{url}/env.txt")).splitlines())
    assert {name: variables.get(name) for name in wanted} == wanted
    assert [name for name in variables if name.endswith("_SERVICE_HOST")] == ["KUBERNETES_SERVICE_HOST"]
    assert (await fetch(f"{url}/words.txt")).splitlines() == ["$(PLAIN)", "$PLAIN"]
    assert (await fetch(f"{url}/id.txt")).startswith("uid=1000 gid=1000")
    assert made.status is Status.RUNNING
    assert await provisioner.find(spec.key) == made


async def test_the_lines_for_kubectl_do_what_they_say_with_the_users_kubeconfig(
    nodes: KubernetesHarness, kubernetes_with_kubelet: Kubernetes, tmp_path: Path
) -> None:
    provisioner, file, local_port = nodes.provisioner_with(stop_timeout=1), tmp_path / "kubeconfig", free_port()
    assert isinstance(provisioner, KubernetesProvisioner)
    until = datetime.now(UTC) + timedelta(hours=1)
    spec = spec_of(
        nodes,
        command=shell("echo it began; " + SERVES),
        ports=(Port(WEB_PORT, service=local_port),),
        kubernetes=Wanted(kubeconfig=True),
        expires_at=until,
    )
    made = await provisioner.ensure(spec, ignore)
    file.write_text(await provisioner.kubeconfig(spec.key) or "")

    def run(line: str, stdin: str = "") -> str:
        return kubernetes_with_kubelet.kubectl(*line.split()[1:], stdin=stdin, kubeconfig=file)

    lines = made.access.kubectl
    assert lines is not None
    assert "it began" in await asyncio.to_thread(run, lines.logs.replace(" -f ", " "))
    assert "uid=1000" in await asyncio.to_thread(run, lines.exec, "cat /tmp/id.txt\n")
    forwarding = await asyncio.create_subprocess_exec(
        path_of_kubectl(), f"--kubeconfig={file}", *lines.port_forward[0].split()[1:], stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        assert "PWD=" in await fetch(f"http://127.0.0.1:{local_port}/env.txt", within=20)
    finally:
        forwarding.terminate()
        await forwarding.wait()
    with pytest.raises(CalledProcessError):
        await asyncio.to_thread(run, f"kubectl -n {nodes.namespace} get pods")


async def test_what_is_let_in_by_ssh_is_a_file_that_sshd_takes(
    nodes: KubernetesHarness, provisioner: Provisioner
) -> None:
    key = read_public_key(KEY)
    script = "ls -lLn /home/student/.ssh > /tmp/ls.txt; cp /home/student/.ssh/authorized_keys /tmp/keys.txt; " + SERVES
    spec = spec_of(nodes, command=shell(script), login=Login(key, "student"))

    url = (await provisioner.ensure(spec, ignore)).access.url

    listed = (await fetch(f"{url}/ls.txt")).splitlines()[-1].split()
    assert (listed[0], listed[2]) == ("-r--r--r--", "0")
    assert (await fetch(f"{url}/keys.txt")) == f"{key.line}\n"


@pytest.mark.parametrize(
    ("changes", "code", "tells"),
    [
        (
            {"command": shell("echo my last words; exit 3")},
            "exited_at_start",
            r"exit code 3\)\. It said: my last words",
        ),
        ({"command": shell("exit 3"), "ready": Readiness()}, "exited_at_start", "exit code 3"),
        ({"command": ("no-such-program",)}, "exited_at_start", "cannot run this command: executable file not found"),
        ({"security": Security()}, "image_runs_as_root", "runs as root"),
        (
            {"command": shell("echo still busy; sleep 600"), "ready": Readiness(WEB_PORT, within=2)},
            "not_ready",
            r"within 2 s\. It said: still busy",
        ),
    ],
)
async def test_what_goes_wrong_is_told_in_the_nodes_words(
    nodes: KubernetesHarness, changes: dict[str, Any], code: str, tells: str
) -> None:
    provisioner = nodes.provisioner_with(stop_timeout=1, settle=30.0)  # a busy node tells late that a program ended

    with pytest.raises(Permanent, match=tells) as error:
        await provisioner.ensure(spec_of(nodes, **changes), ignore)

    assert error.value.code == code
    await nodes.nothing_left()


async def test_a_program_that_ends_later_is_told_and_started_again(
    nodes: KubernetesHarness, provisioner: Provisioner
) -> None:
    script = "cd /tmp; [ -e x ] || (sleep 10; killall httpd) & httpd -f -p 8080 -h /tmp; exit 7"
    told: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(provisioner.watch(told.put_nowait))
    spec = spec_of(nodes, command=shell(script))
    made = await provisioner.ensure(spec, ignore)

    async with asyncio.timeout(60):
        assert await told.get() == spec.reservation_id
    watching.cancel()

    ended = await provisioner.find(spec.key)
    assert ended is not None
    assert ended.ending is not None
    assert (ended.status, ended.ending.exit_code) == (Status.STOPPED, 7)
    again = await provisioner.ensure(spec, ignore)
    assert (again.native_id, again.status) == (made.native_id, Status.RUNNING)


async def test_who_takes_too_much_memory_is_ended_for_it(nodes: KubernetesHarness, provisioner: Provisioner) -> None:
    script = "sleep 10; exec dd if=/dev/zero of=/dev/null bs=512M count=1"
    limits, requests = Limits(cpu_millis=500, memory_bytes=32 * 1024**2), Limits(memory_bytes=8 * 1024**2)
    less = Wanted(requests=requests)
    spec = spec_of(nodes, command=shell(script), limits=limits, kubernetes=less, ready=Readiness(), ports=())
    told: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(provisioner.watch(told.put_nowait))
    await provisioner.ensure(spec, ignore)

    async with asyncio.timeout(60):
        await told.get()
    watching.cancel()

    found = await provisioner.find(spec.key)
    assert found is not None
    assert found.ending is not None
    assert found.ending.out_of_memory
