"""`moorage/sshd:test`: an image that runs OpenSSH's server, and OpenSSH's client to log in to it with.

Made of this system's own sshd and the libraries it asks for, on top of the test image. It lets in `student` (1000), by
public key only; `sshd` runs as that user, on port 2222, and writes to its standard error.
"""

import asyncio
import io
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from tests.services.docker_client import docker_client
from tests.services.image import archive, busybox, own_busybox, root_filesystem
from tests.services.missing import ServiceMissing
from tests.services.packages import need

SSH_IMAGE = "moorage/sshd:test"
SSH_PORT = 2222
SSHD = ("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config")

_RECIPE_LABEL = "moorage.recipe"
_PARTS = ("/usr/lib/openssh/sshd-session", "/usr/lib/openssh/sshd-auth")
"""Programs into which newer releases split sshd."""

_CONFIGURATION = f"""\
Port {SSH_PORT}
HostKey /home/student/host_key
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes yes
""".encode()
_ACCOUNTS = {
    "etc/passwd": (
        b"root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n"
        b"student:x:1000:1000:A student:/home/student:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    ),
    "etc/group": b"root:x:0:\nstudent:x:1000:\nnogroup:x:65534:\n",
    "etc/shadow": b"root:*:19000::::::\nstudent:*:19000::::::\n",
}


def need_ssh() -> None:
    """Make sure that OpenSSH's server and client are there. Raises ServiceMissing."""
    if _sshd() is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        need({"sshd": "openssh-server", "ssh": "openssh-client"})


def prepare_ssh_image(url: str) -> str:
    """Make sure that the engine has the image, as this file describes it; returns its name. Raises ServiceMissing."""
    need_ssh()
    recipe = sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    with docker_client(url) as client:
        if _recipe_of_present_image(client) != recipe:
            repository, tag = SSH_IMAGE.split(":")
            changes = [f'LABEL {_RECIPE_LABEL}="{recipe}"', "USER student"]
            layer = _with_home(root_filesystem(busybox(client), _server_files()))
            client.api.import_image_from_data(layer, repository=repository, tag=tag, changes=changes)
    return SSH_IMAGE


def ssh_image() -> bytes:
    """The image as `docker save` would write it, for who has no engine. Raises ServiceMissing."""
    need_ssh()
    return archive(SSH_IMAGE, _with_home(root_filesystem(own_busybox(), _server_files())))


@dataclass(frozen=True)
class KeyPair:
    """`private` is the file to log in with, `public` the line to hand out."""

    private: Path
    public: str

    @classmethod
    def make(cls, path: Path, kind: str = "-t ed25519") -> "KeyPair":
        command = ["ssh-keygen", "-q", *kind.split(), "-N", "", "-C", "mario@laptop", "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return cls(path, Path(f"{path}.pub").read_text())

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        command = ["ssh-keygen", "-lf", f"{self.private}.pub"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1]


async def log_in(line: str, key: KeyPair | None, command: str, *, within: float = 20.0) -> tuple[int, str, str]:
    """Run `command` over the `ssh` line that a user would paste: exit code, output, and what the client said.

    A server that does not listen yet is tried again. Without a key nothing but a password could help.
    """
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5"
    which = ["-i", str(key.private), "-o", "IdentitiesOnly=yes"] if key else ["-o", "PubkeyAuthentication=no"]
    words = [*shlex.split(line), "-F", "none", *options.split(), *which, command]
    deadline = asyncio.get_running_loop().time() + within
    while True:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, said = (text.decode() for text in await process.communicate())
        unready = re.search(r"Connection (?:refused|reset|closed)|kex_exchange", said)
        if not unready or asyncio.get_running_loop().time() > deadline:
            return process.returncode or 0, output, said
        await asyncio.sleep(0.1)


def _recipe_of_present_image(client: docker.DockerClient) -> str | None:
    try:
        labels: dict[str, str] = client.images.get(SSH_IMAGE).labels
    except ImageNotFound:
        return None
    return labels.get(_RECIPE_LABEL)


def _sshd() -> str | None:
    return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def _server_files() -> dict[str, bytes]:
    if (sshd := _sshd()) is None:
        raise ServiceMissing("there is no sshd here (Debian: openssh-server)")
    programs = [sshd, *(part for part in _PARTS if Path(part).exists())]
    files = {path.lstrip("/"): Path(path).read_bytes() for program in programs for path in _libraries(program)}
    files |= {program.lstrip("/"): Path(program).read_bytes() for program in programs[1:]}
    return files | _ACCOUNTS | {"usr/sbin/sshd": Path(sshd).read_bytes(), "etc/ssh/sshd_config": _CONFIGURATION}


def _libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return re.findall(r"(?:=> )?(/\S+) \(0x", listed)


def _with_home(layer: bytes) -> bytes:
    """`layer` with student's home, where the host's key is: sshd reads it as student."""
    with tempfile.TemporaryDirectory() as folder:
        KeyPair.make(Path(folder) / "host_key")
        host_key = (Path(folder) / "host_key").read_bytes()
    buffer = io.BytesIO(layer)
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for name, kind, mode, content in (
            ("home", tarfile.DIRTYPE, 0o755, b""),
            ("home/student", tarfile.DIRTYPE, 0o755, b""),
            ("home/student/host_key", tarfile.REGTYPE, 0o600, host_key),
            ("run/sshd", tarfile.DIRTYPE, 0o755, b""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.size = kind, mode, len(content)
            entry.uid = entry.gid = 1000 if name.startswith("home/student") else 0
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
