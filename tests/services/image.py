"""`moorage/busybox:test`: the image that tests run, made here because no registry can be assumed.

Every applet of busybox lies in /bin, a page in /www. It has no command of its own, so that tests give theirs.
"""

import io
import json
import platform
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

import docker
from docker.errors import DockerException, ImageNotFound

from tests.services.missing import ServiceMissing
from tests.services.packages import install

TEST_IMAGE = "moorage/busybox:test"
_RECIPE_LABEL = "moorage.recipe"
_UPSTREAM = "busybox:stable-musl"
_ELF_INTERPRETER = 3
_PROGRAMS = (b"\x7fELF", b"#!")
_FILES = {
    "www/index.html": b"moorage\n",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}


def prepare_image(client: docker.DockerClient) -> str:
    """Make sure that the engine has the test image, as this file describes it; returns its name."""
    recipe = sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    if _recipe_of_present_image(client) != recipe:
        archive = root_filesystem(busybox(client))
        label = f'LABEL {_RECIPE_LABEL}="{recipe}"'
        # Podman takes the tag from the name only, Docker from either.
        client.api.import_image_from_data(archive, repository=TEST_IMAGE, changes=[label])
    return TEST_IMAGE


def _recipe_of_present_image(client: docker.DockerClient) -> str | None:
    try:
        labels: dict[str, str] = client.images.get(TEST_IMAGE).labels
    except ImageNotFound:
        return None
    return labels.get(_RECIPE_LABEL)


def busybox(client: docker.DockerClient) -> bytes:
    """A static busybox for the engine's platform: this system's, or else the one in the official image."""
    try:
        return own_busybox()
    except ServiceMissing:
        return _busybox_of_image(client)


def own_busybox() -> bytes:
    """This system's static busybox. Raises ServiceMissing where it can have none."""
    if not _static_busybox():
        install("busybox-static")
    return _static_busybox()


def _static_busybox() -> bytes:
    """This system's busybox; empty without one, or if it is an ELF program that asks for an interpreter to load it."""
    path = shutil.which("busybox")
    binary = Path(path).read_bytes() if path else b""
    if not binary.startswith(b"\x7fELF"):
        return b""
    (headers,) = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    types = {struct.unpack_from("<I", binary, headers + number * size)[0] for number in range(count)}
    return b"" if _ELF_INTERPRETER in types else binary


def _busybox_of_image(client: docker.DockerClient) -> bytes:
    try:
        container = client.containers.create(_UPSTREAM)
    except DockerException as error:
        raise ServiceMissing(f"no static busybox here (Debian: busybox-static), nor in an image: {error}") from error
    try:
        archive, _ = container.get_archive("/bin/busybox", chunk_size=None)
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
            member = tar.extractfile("busybox")
            assert member is not None
            return member.read()
    finally:
        container.remove()


def root_filesystem(busybox: bytes, more: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    """A tar of busybox and its files, and `more` files by path: what begins with #! or ELF's magic can be run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in {"bin": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777, "www": 0o755}.items():
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for name, content in ({**_FILES, "bin/busybox": busybox, **more}).items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if content.startswith(_PROGRAMS) else 0o644
            tar.addfile(entry, io.BytesIO(content))
        for applet in _applets():
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


def archive(name: str, layer: bytes, command: Sequence[str] = ()) -> bytes:
    """An image of one layer as `docker save` would write it, with a command if it has one."""
    digest = sha256(layer).hexdigest()
    described = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine := platform.machine(), machine),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    listed = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"config.json": json.dumps(described), "manifest.json": json.dumps(listed)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in {"layer.tar": layer, **{path: text.encode() for path, text in files.items()}}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _applets() -> list[str]:
    if shutil.which("busybox") is None:
        return ["cat", "echo", "env", "false", "httpd", "id", "ls", "nc", "sh", "sleep", "true", "wget"]
    listed = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    return [applet for applet in listed if applet != "busybox"]
