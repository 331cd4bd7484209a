"""An engine behind TLS: both sides prove who they are, or nothing comes of it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from consumer.catalog.needs import Needs
from consumer.handling.errors import Unavailable
from consumer.handling.ports import Level, Status
from consumer.provisioners.docker import DockerOptions, DockerProvisioner
from tests.provisioners.docker.harness import DockerHarness
from tests.provisioners.harness import ignore
from tests.services import DockerEngine


@dataclass(frozen=True)
class Door:
    """A TLS port of the engine that only opens to clients whose certificates `authority` has signed."""

    url: str
    authority: trustme.CA


@pytest.fixture
async def door(docker_engine: DockerEngine) -> AsyncIterator[Door]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    engine = docker_engine.url.removeprefix("unix://")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside, outside = await asyncio.open_unix_connection(engine)
        await asyncio.gather(_pump(reader, outside), _pump(inside, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        yield Door(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", authority)
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, ssl.SSLError):
        writer.close()
        await writer.wait_closed()


def certificates(folder: Path, client: trustme.CA, trusted: trustme.CA) -> Path:
    """A folder as the `docker` command has it."""
    issued = client.issue_cert("moorage@example.org")
    trusted.cert_pem.write_to_path(folder / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return folder


@pytest.mark.docker
async def test_with_the_right_certificates_it_works_as_ever(harness: DockerHarness, door: Door, tmp_path: Path) -> None:
    tls = certificates(tmp_path, door.authority, door.authority)
    provisioner = harness.provisioner_with(url=door.url, tls=tls)

    made = await provisioner.ensure(harness.spec(), ignore)

    assert made.status is Status.RUNNING
    assert await provisioner.remove(made.key)


@pytest.mark.docker
@pytest.mark.parametrize("stranger", ["client", "engine"])
async def test_a_stranger_on_either_side_is_refused(
    harness: DockerHarness, door: Door, tmp_path: Path, stranger: str
) -> None:
    other = trustme.CA()
    client, trusted = (other, door.authority) if stranger == "client" else (door.authority, other)
    provisioner = harness.provisioner_with(url=door.url, tls=certificates(tmp_path, client, trusted))

    with pytest.raises(Unavailable, match="Docker Engine"):
        await provisioner.ping()

    (finding,) = await provisioner.diagnose(Needs())
    assert finding.level is Level.ERROR
    assert "certificates" in (finding.remedy or "")


@pytest.mark.docker
async def test_without_certificates_the_door_stays_shut(harness: DockerHarness, door: Door) -> None:
    with pytest.raises(Unavailable):
        await harness.provisioner_with(url=door.url).ping()


def test_certificates_that_cannot_be_used_are_named_at_start(tmp_path: Path) -> None:
    options = DockerOptions("test", "tcp://127.0.0.1:2376", tls=tmp_path)
    with pytest.raises(ValueError, match=r"must have ca\.pem, cert\.pem and key\.pem"):
        DockerProvisioner(options)
    certificates(tmp_path, trustme.CA(), trustme.CA())
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(ValueError, match="cannot be used"):
        DockerProvisioner(options)
