"""The page of an environment without a program of its own."""

import asyncio
import signal
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from consumer.catalog import identity
from consumer.catalog.environment import AccessHints
from consumer.provisioners.process import page
from tests.provisioners.harness import UNTIL, fetch, ignore
from tests.provisioners.process.harness import ProcessHarness, supervisor_of


async def test_it_tells_whose_the_environment_is_and_until_when(harness: ProcessHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec("<script>alert(1)</script>", command=()), ignore)

    assert made.access.url is not None
    page = await fetch(made.access.url)
    assert "gpu-01" in page
    assert "Alice Ö&#x27;Hara &lt;b&gt;" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert UNTIL.isoformat() in page
    assert "<script" not in page


async def test_it_follows_the_end_of_the_reservation(harness: ProcessHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec(command=())
    made = await provisioner.ensure(spec, ignore)
    later = UNTIL + timedelta(days=1)

    again = await provisioner.ensure(replace(spec, expires_at=later), ignore)

    assert (again.native_id, again.expires_at) == (made.native_id, later)
    assert made.access.url is not None
    assert later.isoformat() in await fetch(made.access.url)


async def test_it_has_a_port_and_a_url_even_if_the_template_names_none(harness: ProcessHarness) -> None:
    spec = harness.spec(command=(), ports=(), access=AccessHints())

    made = await harness.provisioner().ensure(spec, ignore)

    assert [port.port for port in made.access.ports] == [80]
    assert made.access.url is not None
    assert "gpu-01" in await fetch(made.access.url)


@pytest.mark.timeout(180)
async def test_it_answers_within_the_blink_of_an_eye(harness: ProcessHarness) -> None:
    provisioner, clock, times = harness.provisioner(), asyncio.get_running_loop().time, []
    await provisioner.ping()
    for number in range(30):
        began = clock()
        made = await provisioner.ensure(harness.spec(f"r-{number}", command=()), ignore)
        assert made.access.url is not None
        await fetch(made.access.url)
        times.append(clock() - began)
        if times[-1] < 1.0:
            break

    assert min(times) < 1.0, "about 0.07 s on an idle machine, and a busy one is not busy all the time"


async def test_a_slow_visitor_and_a_crowd_keep_nobody_from_it(harness: ProcessHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec(command=()), ignore)
    port = made.access.ports[0].host_port
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
    for _, writer in crowd:
        writer.write(b"GET / HT")

    assert made.access.url is not None
    assert "gpu-01" in await fetch(made.access.url)

    for _, writer in crowd:
        writer.close()
        await writer.wait_closed()


async def test_the_supervisor_brings_it_back(harness: ProcessHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec(command=()), ignore)
    supervisor_of(made).children()[0].send_signal(signal.SIGSEGV)

    assert made.access.url is not None
    assert "gpu-01" in await fetch(made.access.url)


async def test_a_head_that_never_ends_is_hung_up_on(harness: ProcessHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec(command=()), ignore)
    reader, writer = await asyncio.open_connection("127.0.0.1", made.access.ports[0].host_port)

    writer.write(b"GET / HTTP/1.1\r\n" + b"x" * 20_000)

    with suppress(ConnectionResetError):  # if bytes of ours were still unread
        assert await reader.read() == b""
    writer.close()


async def test_more_visitors_than_it_takes_are_turned_away(harness: ProcessHarness) -> None:
    made = await harness.provisioner().ensure(harness.spec(command=()), ignore)
    port = made.access.ports[0].host_port
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(64)]
    assert made.access.url is not None
    await asyncio.sleep(0.3)

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""

    for _, each in [*crowd, (reader, writer)]:
        each.close()
    assert "gpu-01" in await fetch(made.access.url)


def test_it_reads_the_labels_that_are_written() -> None:
    assert {label for _, label in page._FACTS} == {
        identity.RESERVATION_ID,
        identity.USER_NAME,
        identity.RESOURCE_NAME,
        identity.EXPIRES_AT,
    }


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", b"200"),
        (b"GET /?x=1 HTTP/1.1", b"200"),
        (b"GET /favicon.ico HTTP/1.1", b"404"),
        (b"GET /../etc/passwd HTTP/1.1", b"404"),
        (b"POST / HTTP/1.1", b"405"),
        (b"\x16\x03\x01", b"405"),
        (b"", b"405"),
    ],
)
def test_there_is_one_page_and_it_is_read_only(request_line: bytes, status: bytes) -> None:
    assert page.response(request_line + b"\r\n\r\n", {}).split()[1] == status


def test_head_is_get_without_a_body() -> None:
    labels = {identity.RESOURCE_NAME: "gpu \ud800"}  # what some JSON parsers let through

    head, _, body = page.response(b"GET / HTTP/1.1\r\n\r\n", labels).partition(b"\r\n\r\n")

    assert page.response(b"HEAD / HTTP/1.1\r\n\r\n", labels) == head + b"\r\n\r\n"
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"default-src 'none'" in head
