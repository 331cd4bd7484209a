"""A Docker Engine that errs, falls silent, or does the work and loses the reply."""

import asyncio
from contextlib import suppress

import pytest

from consumer.catalog.environment import Port
from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Status
from tests.provisioners.docker.harness import SOON, DockerHarness
from tests.provisioners.docker.proxy import Action, EngineProxy
from tests.provisioners.harness import WEB_PORT, ignore, until

pytestmark = pytest.mark.docker

ASKED_FOR = (Port(WEB_PORT, host=40_000),)
CREATE, START, DELETE = r"POST \S+/containers/create", r"POST \S+/start", r"DELETE \S+/containers/"
LIST, INSPECT = r"GET \S+/containers/json", r"GET \S+/containers/[^/]+/json"


@pytest.mark.parametrize(("lost", "how"), [(CREATE, "lose_reply"), (CREATE, "cut_reply"), (START, "lose_reply")])
async def test_when_the_reply_is_lost_looking_tells(
    harness: DockerHarness, proxy: EngineProxy, lost: str, how: Action
) -> None:
    proxy.on(lost, how)

    made = await harness.provisioner_with(url=proxy.url).ensure(harness.spec(), ignore)

    assert made.status is Status.RUNNING
    assert proxy.count(CREATE) == 1


@pytest.mark.parametrize("slow", [CREATE, START, LIST])
async def test_an_engine_that_falls_silent_is_unavailable(
    harness: DockerHarness, proxy: EngineProxy, slow: str
) -> None:
    proxy.on(slow, "hang")
    provisioner = harness.provisioner_with(url=proxy.url, create_timeout=1.0, request_timeout=1.0)

    with pytest.raises(Unavailable, match="in time"):
        await provisioner.ensure(harness.spec(), ignore)

    assert (await harness.provisioner().ensure(harness.spec(), ignore)).status is Status.RUNNING


@pytest.mark.parametrize("closed", [CREATE, START, LIST, INSPECT])
async def test_an_engine_that_hangs_up_is_unavailable(harness: DockerHarness, proxy: EngineProxy, closed: str) -> None:
    proxy.on(closed, "refuse", times=5)

    with pytest.raises(Unavailable, match="reached"):
        await harness.provisioner_with(url=proxy.url).ensure(harness.spec(), ignore)


@pytest.mark.parametrize("failing", [CREATE, START, LIST, INSPECT])
async def test_an_engine_that_errs_is_worth_another_try(
    harness: DockerHarness, proxy: EngineProxy, failing: str
) -> None:
    proxy.answer(failing, 500, "panic at /usr/src/docker/secret.go:12: goroutine 7 [running]")

    with pytest.raises(Transient) as error:
        await harness.provisioner_with(url=proxy.url).ensure(harness.spec(), ignore)

    assert error.value.code == "runtime_error"
    assert "goroutine" not in error.value.message


@pytest.mark.parametrize(
    ("asked", "status", "message", "expected", "code"),
    [
        (CREATE, 500, "write /var/lib/docker/x: no space left on device", Transient, "runtime_full"),
        (CREATE, 400, "invalid value for /var/lib/docker/x", Permanent, "invalid_spec"),
        (CREATE, 403, "denied by the proxy", Unavailable, "runtime_unavailable"),
        (START, 404, "network moorage-x not found", Transient, "runtime_busy"),
        (START, 404, "No such container: x", Transient, "runtime_error"),
        (START, 409, "cannot start a container that is marked for removal", Transient, "runtime_busy"),
        (
            START,
            400,
            'OCI runtime create failed: starting container process: exec: "x": executable file not found in $PATH',
            Permanent,
            "exited_at_start",
        ),
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
    proxy.answer(asked, status, message)

    with pytest.raises(expected) as error:
        await harness.provisioner_with(url=proxy.url).ensure(harness.spec(), ignore)

    assert error.value.code == code
    assert "/var/lib" not in error.value.message


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (200, b"<html>Welcome to nginx</html>"),
        (200, b'{"unexpected": true}'),
        (200, b"{"),
        (200, b""),
        (404, b'{"message": "page not found"}'),
        (404, b'{"error": "page not found"}'),
        (409, b'{"message": "no"}'),
        (401, b"login first"),
    ],
)
async def test_what_is_no_engine_is_unavailable(
    harness: DockerHarness, proxy: EngineProxy, status: int, raw: bytes
) -> None:
    proxy.answer("", status, "", times=100, raw=raw)
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec()

    for call in (
        provisioner.ping(),
        provisioner.list(),
        provisioner.find(spec.key),
        provisioner.remove(spec.key),
        provisioner.ensure(spec, ignore),
    ):
        with pytest.raises(Unavailable):
            await call


async def test_an_engine_that_errs_at_a_ping_is_unavailable(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.answer("/_ping", 500, "panic")

    with pytest.raises(Unavailable):
        await harness.provisioner_with(url=proxy.url).ping()


async def test_a_network_that_is_missed_at_creation_is_named_as_the_reason(
    harness: DockerHarness, proxy: EngineProxy
) -> None:
    proxy.answer(CREATE, 404, "network moorage not found")

    with pytest.raises(Permanent, match="network"):
        await harness.provisioner_with(url=proxy.url, network="moorage").ensure(harness.spec(), ignore)


async def test_an_image_may_have_network_in_its_name(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.answer(CREATE, 404, "No such image: courses/network-lab:1")
    proxy.answer(r"POST \S+/images/create", 404, "manifest unknown")

    with pytest.raises(Permanent) as error:
        await harness.provisioner_with(url=proxy.url).ensure(harness.spec(image="courses/network-lab:1"), ignore)

    assert error.value.code == "image_not_found"


async def test_a_container_that_vanishes_while_it_starts_is_worth_another_try(
    harness: DockerHarness, proxy: EngineProxy
) -> None:
    proxy.answer(INSPECT, 404, "No such container: x")

    with pytest.raises(Transient, match="vanished"):
        await harness.provisioner_with(url=proxy.url).ensure(harness.spec(), ignore)

    assert await harness.leftovers() == []


async def test_one_that_ends_between_two_looks_is_started_again(harness: DockerHarness, proxy: EngineProxy) -> None:
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec()
    made = await provisioner.ensure(spec, ignore)
    proxy.answer(INSPECT, 404, "No such container: x")

    assert await provisioner.ensure(spec, ignore) == made

    assert proxy.count(START) == 2


async def test_a_program_whose_last_words_cannot_be_had_ended_all_the_same(
    harness: DockerHarness, proxy: EngineProxy
) -> None:
    proxy.answer(r"GET \S+/logs", 404, "No such container: x")
    spec = harness.spec(command=("sh", "-c", "echo words; exit 3"))

    with pytest.raises(Permanent, match=r"exit code 3\)\.$"):
        await harness.provisioner_with(url=proxy.url, settle=SOON).ensure(spec, ignore)


async def test_a_program_that_somebody_stops_while_it_starts_is_worth_another_try(harness: DockerHarness) -> None:
    spec = harness.spec(command=("sh", "-c", "kill -TERM $$"))

    with pytest.raises(Transient) as error:
        await harness.provisioner_with(settle=SOON).ensure(spec, ignore)

    assert error.value.code == "runtime_busy"
    assert await harness.leftovers() == []


async def test_when_starting_fails_what_was_half_made_is_removed(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.answer(START, 500, "driver failed programming external connectivity: Bind: address already in use")

    with pytest.raises(Transient) as error:
        await harness.provisioner_with(url=proxy.url).ensure(harness.spec(ports=ASKED_FOR), ignore)

    assert error.value.code == "port_taken"
    assert await harness.leftovers() == []


async def test_when_starting_again_fails_it_is_kept(harness: DockerHarness, proxy: EngineProxy) -> None:
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec()
    made = await provisioner.ensure(spec, ignore)
    await harness.stop(made)
    proxy.answer(START, 500, "panic")

    with pytest.raises(Transient):
        await provisioner.ensure(spec, ignore)

    assert (await provisioner.ensure(spec, ignore)).native_id == made.native_id


async def test_when_cleaning_up_fails_the_first_reason_is_told(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.answer(START, 500, "port is already allocated")
    proxy.answer(DELETE, 500, "device busy")
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec(ports=ASKED_FOR)

    with pytest.raises(Transient) as error:
        await provisioner.ensure(spec, ignore)

    assert error.value.code == "port_taken"
    assert await provisioner.remove(spec.key) is True


async def test_a_removal_under_way_is_waited_for(harness: DockerHarness, proxy: EngineProxy) -> None:
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec()
    await provisioner.ensure(spec, ignore)
    proxy.answer(DELETE, 409, "removal of container x is already in progress", times=2)

    assert await provisioner.remove(spec.key) is True

    assert proxy.count(DELETE) == 3
    assert await harness.leftovers() == []


async def test_a_removal_that_never_ends_is_worth_another_try(
    harness: DockerHarness, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.provisioners.docker.provisioner._GONE_WITHIN", 0.2)
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec()
    await provisioner.ensure(spec, ignore)
    proxy.answer(DELETE, 409, "removal of container x is already in progress", times=20)

    with pytest.raises(Transient) as error:
        await provisioner.remove(spec.key)

    assert error.value.code == "runtime_busy"


async def test_a_removal_whose_reply_is_lost_is_found_done(harness: DockerHarness, proxy: EngineProxy) -> None:
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec()
    await provisioner.ensure(spec, ignore)
    proxy.on(DELETE, "lose_reply")

    with suppress(Unavailable):  # unless the client asks again by itself, as it may on a connection it had before
        await provisioner.remove(spec.key)

    assert await provisioner.remove(spec.key) is False


async def test_a_name_that_stays_taken_by_nothing_visible_is_worth_another_try(
    harness: DockerHarness, proxy: EngineProxy
) -> None:
    proxy.answer(CREATE, 409, "Conflict. The container name is already in use", times=100)

    with pytest.raises(Transient) as error:
        await harness.provisioner_with(url=proxy.url, create_timeout=1.0).ensure(harness.spec(), ignore)

    assert error.value.code == "runtime_busy"


async def test_remove_waits_for_a_creation_that_nobody_waits_for(harness: DockerHarness, proxy: EngineProxy) -> None:
    provisioner, spec = harness.provisioner_with(url=proxy.url), harness.spec()
    ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
    await until(lambda: proxy.count(CREATE) == 1)
    ensuring.cancel()
    await asyncio.gather(ensuring, return_exceptions=True)

    await provisioner.remove(spec.key)

    await asyncio.sleep(0.5)
    assert await harness.leftovers() == []


async def test_closing_gives_up_what_is_under_way(harness: DockerHarness, proxy: EngineProxy) -> None:
    proxy.on(CREATE, "hang")
    provisioner = harness.provisioner_with(url=proxy.url)
    ensuring = asyncio.create_task(provisioner.ensure(harness.spec(), ignore))
    await until(lambda: proxy.count(CREATE) == 1)

    await provisioner.close()

    with pytest.raises(Unavailable):
        await ensuring


async def test_a_hundred_requests_at_once_are_not_taken_for_a_slow_engine(
    harness: DockerHarness, proxy: EngineProxy
) -> None:
    provisioner = harness.provisioner_with(url=proxy.url)

    assert await asyncio.gather(*(provisioner.list() for _ in range(150))) == [[]] * 150
