"""Ports of the process runtime: bound before the program starts, and handed to it."""

import asyncio
import contextlib
import socket
import sys
from typing import Any

import pytest

from consumer.catalog.environment import AccessHints, Port
from consumer.handling.errors import Transient
from consumer.provisioners.process import ProcessOptions, ProcessProvisioner
from tests.provisioners.harness import WEB_PORT, fetch, ignore
from tests.provisioners.process.harness import ProcessHarness


async def test_a_program_may_use_the_socket_it_inherits(harness: ProcessHarness) -> None:
    script = (
        "import os, socket\n"
        "s = socket.socket(fileno=int(os.environ['LISTEN_FD'])); s.listen()\n"
        "while True:\n"
        "    c, _ = s.accept(); c.recv(999); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nmine'); c.close()\n"
    )
    made = await harness.provisioner().ensure(harness.spec(command=(sys.executable, "-c", script)), ignore)

    assert made.access.url is not None
    assert await fetch(made.access.url) == "mine"


async def test_every_port_has_a_variable(harness: ProcessHarness) -> None:
    ports = (Port(22), Port(WEB_PORT), Port(53, protocol="udp"))
    made = await harness.provisioner().ensure(
        harness.spec(ports=ports, access=AccessHints(WEB_PORT, 22, "alice")), ignore
    )

    seen = await harness.variables(made)
    outside = {(port.port, port.protocol): str(port.host_port) for port in made.access.ports}
    assert seen["PORT"] == seen["PORT_8080"] == outside[WEB_PORT, "tcp"]
    assert seen["PORT_22"] == outside[22, "tcp"]
    assert seen["PORT_53_UDP"] == outside[53, "udp"]
    assert made.access.ssh == f"ssh -p {outside[22, 'tcp']} alice@127.0.0.1"


async def test_a_port_in_use_is_worth_another_try(harness: ProcessHarness) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        spec = harness.spec(ports=(Port(WEB_PORT, host=taken.getsockname()[1]),))

        with pytest.raises(Transient) as error:
            await harness.provisioner().ensure(spec, ignore)

    assert error.value.code == "port_taken"
    assert await harness.leftovers() == []


async def test_a_port_reserved_for_another_of_ours_is_in_use(harness: ProcessHarness, free_port: int) -> None:
    provisioner = harness.provisioner()
    sleeping: dict[str, Any] = {"ports": (Port(WEB_PORT, host=free_port),), "command": ("sleep", "1000")}
    await provisioner.ensure(harness.spec("r-1", **sleeping), ignore)

    with pytest.raises(Transient) as error:
        await provisioner.ensure(harness.spec("r-2", **sleeping), ignore)

    assert error.value.code == "port_taken"


async def test_one_that_lost_its_port_gets_another(harness: ProcessHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec()
    made = await provisioner.ensure(spec, ignore)
    await harness.stop(made)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await bind_when_free(taken, made.access.ports[0].host_port)
        taken.listen()

        again = await provisioner.ensure(spec, ignore)

        assert again.access.ports[0].host_port != made.access.ports[0].host_port
        await harness.variables(again)


async def test_another_bind_and_public_host(harness: ProcessHarness) -> None:
    options = ProcessOptions(harness.root, harness.instance, bind_host="::1", public_host="moorage.example.org")
    provisioner = ProcessProvisioner(options)

    made = await provisioner.ensure(harness.spec(command=()), ignore)

    port = made.access.ports[0].host_port
    assert made.access.url == f"http://moorage.example.org:{port}"
    assert "r-1" in await fetch(f"http://[::1]:{port}")
    await provisioner.close()


async def bind_when_free(taken: socket.socket, port: int) -> None:
    """Take the port as soon as the process that ended has let go of it."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                return taken.bind(("127.0.0.1", port))
            await asyncio.sleep(0.05)
