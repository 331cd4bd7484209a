"""Logins run out: programs that a kubeconfig names are asked again, files are read again, and nobody hangs on them."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import yaml
from kubernetes_asyncio.client import AuthenticationV1Api

from consumer.handling.errors import Unavailable
from consumer.provisioners.kubernetes import KubernetesOptions
from consumer.provisioners.kubernetes.connection import Connection
from consumer.provisioners.kubernetes.permissions import NEEDED
from tests.provisioners.harness import ignore, until
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tests.provisioners.kubernetes.proxy import ApiProxy
from tests.services import Kubernetes
from tests.services.kubernetes_pki import Pki

VERSION = "client.authentication.k8s.io/v1"
SECRET = "hunter2"
Login = Callable[..., Connection]


def credential(**status: str) -> str:
    return json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status})


def program(folder: Path, script: str) -> dict[str, Any]:
    """The user of a kubeconfig who is whom a shell script says."""
    return {"exec": {"apiVersion": VERSION, "command": "sh", "args": ["-c", script], "env": [_folder(folder)]}}


def _folder(folder: Path) -> dict[str, str]:
    return {"name": "HERE", "value": str(folder)}


def kubeconfig(path: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    content = {
        "clusters": [{"name": "x", "cluster": cluster or {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def login(tmp_path: Path) -> Login:
    def by(script: str, *, within: float = 30.0) -> Connection:
        path = kubeconfig(tmp_path / "kubeconfig", program(tmp_path, script))
        return Connection(KubernetesOptions("test", kubeconfig=str(path), request_timeout=within))

    return by


async def test_a_program_is_asked_without_a_terminal_for_what_it_is_to_say(login: Login, tmp_path: Path) -> None:
    told = f"printf '%s' '{credential(token='t-1')}'"
    connection = login(f'cat > "$HERE/typed"; printf "%s" "$KUBERNETES_EXEC_INFO" > "$HERE/info"; {told}')

    await connection.api()
    await connection.close()

    assert connection.login[0] == "Bearer t-1"
    assert (tmp_path / "typed").read_text() == ""
    info = json.loads((tmp_path / "info").read_text())
    assert info == {"apiVersion": VERSION, "kind": "ExecCredential", "spec": {"interactive": False}}


@pytest.mark.parametrize(
    ("script", "tells"),
    [
        (f"echo {SECRET} | tee /dev/stderr; exit 3", "gives none, and ends with exit code 3. Run it as Moorage does"),
        (f"echo {SECRET}", "says something that is none"),
        ("true", "says something that is none"),
        (f"echo '[\"{SECRET}\"]'", "says something that is none"),
        (f"echo '{credential().replace('{}', 'null')}'", "says something that is none"),
        (f"echo '{credential()}'", f"says nothing that is one by {VERSION}"),
        (f"echo '{credential(clientCertificateData=SECRET)}'", f"says nothing that is one by {VERSION}"),
        (f"echo '{credential(token='')}'", f"says nothing that is one by {VERSION}"),
        (f"echo '{credential(token=SECRET).replace('/v1', '/v2')}'", f"says nothing that is one by {VERSION}"),
        (f"yes {SECRET}", "gives none"),
    ],
)
async def test_a_program_that_gives_no_login_is_told_so_without_its_words(
    login: Login, caplog: pytest.LogCaptureFixture, script: str, tells: str
) -> None:
    with pytest.raises(Unavailable) as error:
        await login(script).api()

    assert tells in error.value.message
    assert SECRET not in error.value.message + caplog.text


async def test_a_program_that_is_not_there_is_no_login(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": VERSION, "command": "/nonexistent/login"}}
    path = kubeconfig(tmp_path / "kubeconfig", user)

    with pytest.raises(Unavailable, match="cannot be started: No such file or directory"):
        await Connection(KubernetesOptions("test", kubeconfig=str(path))).api()


async def test_a_program_that_hangs_is_ended_with_what_it_started(login: Login, tmp_path: Path) -> None:
    connection = login('sleep 3600 & echo $! $$ > "$HERE/pids"; wait', within=8.0)

    with pytest.raises(Unavailable, match="gives none in time"):
        await connection.api()

    pids = (tmp_path / "pids").read_text().split()
    await until(lambda: not any(map(runs, pids)))


async def test_a_program_that_hangs_leaves_no_pipe_open_whoever_else_holds_it(login: Login, tmp_path: Path) -> None:
    connection = login('setsid sleep 3600 & echo $! > "$HERE/pid"; wait', within=8.0)
    opened = psutil.Process().num_fds()
    try:
        with pytest.raises(Unavailable, match="gives none in time"):
            await connection.api()

        await until(lambda: psutil.Process().num_fds() <= opened)
    finally:
        psutil.Process(int((tmp_path / "pid").read_text())).kill()


def runs(pid: str) -> bool:
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_those_who_wait_for_a_program_do_not_each_try_it_in_vain(login: Login, tmp_path: Path) -> None:
    connection = login('echo >> "$HERE/asked"; exit 1')

    found = await asyncio.gather(*(connection.api() for _ in range(5)), return_exceptions=True)
    with pytest.raises(Unavailable):
        await connection.api()

    assert [type(each) for each in found] == [Unavailable] * 5
    assert len((tmp_path / "asked").read_text().splitlines()) == 2


@pytest.mark.kubernetes
async def test_a_program_may_give_a_certificate_and_then_another(
    harness: KubernetesHarness, kubernetes: Kubernetes, tmp_path: Path
) -> None:
    admin = yaml.safe_load(kubernetes.kubeconfig.read_text())
    cluster, user = admin["clusters"][0]["cluster"], admin["users"][0]["user"]
    good = [base64.b64decode(user[f"client-{name}-data"]).decode() for name in ("certificate", "key")]
    stranger = Pki.create(tmp_path / "pki").certificate("stranger", user="admin")
    path = kubeconfig(tmp_path / "kubeconfig", program(tmp_path, 'cat "$HERE/login"'), cluster)
    provisioner = harness.provisioner_with(kubeconfig=str(path))

    def hand_out(certificate: str, key: str) -> None:
        (tmp_path / "login").write_text(credential(clientCertificateData=certificate, clientKeyData=key))

    hand_out(*(file.read_text() for file in stranger))
    with pytest.raises(Unavailable, match="does not accept Moorage's login"):
        await provisioner.ping()
    hand_out(*good)

    await provisioner.ping()


@pytest.mark.kubernetes
@pytest.mark.timeout(120)
async def test_a_token_that_the_server_no_longer_takes_is_had_again_from_programs_and_files(
    harness: KubernetesHarness, kubernetes: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account(kubernetes, harness.namespace, tmp_path)
    account.hand_out("first")
    async with ApiProxy(str(account.kubeconfig), tmp_path) as proxy:
        through_door = {"server": yaml.safe_load(proxy.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]}
        asked = program(tmp_path, 'echo >> "$HERE/asked"; cat "$HERE/login"')
        by_program = kubeconfig(tmp_path / "by-program", asked, through_door)
        by_file = kubeconfig(tmp_path / "by-file", {"tokenFile": str(tmp_path / "token")}, account.cluster)
        account.be_where_moorage_runs(monkeypatch)
        ways = [
            harness.provisioner_with(kubeconfig=None if path is None else str(path), settle=0.0)
            for path in (by_program, by_file, None)
        ]
        told: asyncio.Queue[str] = asyncio.Queue()
        watching = asyncio.create_task(ways[0].watch(told.put_nowait))
        made = await ways[0].ensure(harness.spec("r-1"), ignore)
        assert [await way.list() for way in ways] == [[made]] * 3

        await account.revoke("first", harness)
        for way in ways:
            with pytest.raises(Unavailable, match="does not accept Moorage's login"):
                await way.list()
        account.hand_out("second")
        proxy.cut_watches()

        assert [await way.list() for way in ways] == [[made]] * 3
        await harness.stop(made)
        async with asyncio.timeout(60):
            assert await told.get() == "r-1"
        watching.cancel()
        await harness.core.delete_namespaced_secret("second", harness.namespace)
    assert len((tmp_path / "asked").read_text().splitlines()) >= 3


class Account:
    """A service account whose tokens are good for as long as a Secret is there."""

    def __init__(self, kubernetes: Kubernetes, namespace: str, folder: Path) -> None:
        self._kubernetes, self._namespace, self._folder = kubernetes, namespace, folder
        self._token = folder / "token"
        rules = [{"apiGroups": [r.group], "resources": [r.resource], "verbs": [*r.verbs]} for r in NEEDED]
        self.kubeconfig = kubernetes.account(namespace, rules, folder / "account")
        self.cluster = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]
        asked = ("auth", "whoami", "--output=jsonpath={.status.userInfo.username}")
        self._name = kubernetes.kubectl(*asked, kubeconfig=self.kubeconfig).rpartition(":")[2]

    def hand_out(self, secret: str) -> None:
        """From now on programs and files give a token that is bound to this secret."""
        about = {"name": secret, "namespace": self._namespace}
        self._kubernetes.apply({"apiVersion": "v1", "kind": "Secret", "metadata": about})
        bound = ("--bound-object-kind=Secret", f"--bound-object-name={secret}")
        token = self._kubernetes.kubectl("create", "token", self._name, f"--namespace={self._namespace}", *bound)
        until = "2000-01-01T00:00:00Z"  # the server's word counts
        (self._folder / "login").write_text(credential(token=token.strip(), expirationTimestamp=until))
        self._token.write_text(token.strip())

    async def revoke(self, secret: str, harness: KubernetesHarness) -> None:
        """Return when the server takes no token any more that is bound to this secret, which was handed out last."""
        review = {"spec": {"token": self._token.read_text()}}
        await harness.core.delete_namespaced_secret(secret, self._namespace)
        reviews = AuthenticationV1Api(harness.api)
        while True:
            if not (await reviews.create_token_review(review)).status.authenticated:
                return
            await asyncio.sleep(0.1)

    def be_where_moorage_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever has no kubeconfig is in a pod of this account."""
        server = urlsplit(self.cluster["server"])
        ca = self._folder / "ca.crt"
        ca.write_bytes(base64.b64decode(self.cluster["certificate-authority-data"]))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(server.hostname))
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        for name, path in (("TOKEN", self._token), ("CERT", ca)):
            monkeypatch.setattr(f"kubernetes_asyncio.config.incluster_config.SERVICE_{name}_FILENAME", str(path))
