"""What a start will need is fetched when the reservation becomes known, and nothing ever waits or fails for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from consumer.handling.errors import Transient, Unavailable
from consumer.provisioners.memory import Call, MemoryEngine
from schemas.state import Phase
from tests.handling.stage import Stage, created, deleted, resource, start, updated

TEMPLATES = """
version: 1
templates:
  - name: linux
    match: {type: Linux container}
    runtime: docker
    image: nginx:1.27
    prepull: true
    images: {allow: ["httpd:*"]}
  - name: other
    match: {type: Pod}
    runtime: podman
    image: nginx:1.27
"""

LATER = {"start": "2026-03-02T11:00:00Z", "end": "2026-03-02T12:00:00Z"}


@asynccontextmanager
async def preparing(stage: Stage) -> AsyncIterator[None]:
    task = asyncio.create_task(stage.preparation.run())
    try:
        yield
        await asyncio.sleep(3600)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def prepared(engine: MemoryEngine) -> list[str]:
    return [call.spec.image for call in engine.calls if call.operation == "prepare" and call.spec is not None]


async def test_a_booking_has_its_image_fetched_and_starts_nothing() -> None:
    stage = Stage(TEMPLATES)
    async with preparing(stage):
        told = await stage.deliver(created(**LATER))
    assert told.outcomes == [("skipped", "remembered")]
    assert prepared(stage.docker) == ["nginx:1.27"]
    assert stage.running == set()
    assert stage.state.phase is Phase.PENDING


async def test_a_change_has_the_image_fetched_that_is_wanted_now() -> None:
    stage = Stage(TEMPLATES)
    async with preparing(stage):
        await stage.deliver(created(**LATER))
        await stage.deliver(updated(1, **LATER, customParameters='{"image": "httpd:2.4"}'))
    assert prepared(stage.docker) == ["nginx:1.27", "docker.io/library/httpd:2.4"]


async def test_many_reservations_and_duplicates_have_one_image_fetched_once() -> None:
    stage = Stage(TEMPLATES)
    async with preparing(stage):
        await stage.deliver_all(*[created(**LATER)] * 3, updated(1, **LATER), updated(1, **LATER))
    assert prepared(stage.docker) == ["nginx:1.27"]


async def test_after_a_while_it_is_looked_at_again() -> None:
    stage = Stage(TEMPLATES)
    async with preparing(stage):
        await stage.deliver(created(**LATER))
        await asyncio.sleep(601)
        await stage.deliver(created(**LATER))
    assert prepared(stage.docker) == ["nginx:1.27"] * 2


@pytest.mark.parametrize(
    "event",
    [
        created(**LATER, resource=resource(kind="Pod")),
        created(**LATER, customParameters='{"image": "redis:7"}'),
        created(end="2026-03-02T08:30:00Z"),
        created(**LATER, resource=resource(kind="Unknown")),
        start(),
        deleted(),
    ],
    ids=["template does not say so", "image refused", "over", "no template", "starts now", "ended"],
)
async def test_nothing_is_fetched(event: dict[str, object]) -> None:
    stage = Stage(TEMPLATES)
    async with preparing(stage):
        await stage.deliver(event)
    assert prepared(stage.docker) == prepared(stage.podman) == []


async def test_what_runs_already_needs_nothing_fetched() -> None:
    stage = Stage(TEMPLATES)
    async with preparing(stage):
        await stage.deliver_all(created(), start(), updated(1))
    assert prepared(stage.docker) == ["nginx:1.27"]


async def test_a_slow_registry_delays_no_event_and_holds_up_two_images_at_most() -> None:
    stage = Stage(TEMPLATES)
    slow = asyncio.Event()

    async def latency(call: Call) -> None:
        if call.operation == "prepare":
            await slow.wait()

    stage.docker.latency = latency
    async with preparing(stage):
        for version in range(1, 6):
            wanted = f'{{"image": "httpd:{version}"}}'
            await stage.deliver(updated(version, **LATER, customParameters=wanted))
        await stage.deliver(start(eventId="7", eventEnd="2026-03-02T10:00:00Z"))
        assert asyncio.get_running_loop().time() < 1
        await asyncio.sleep(60)
        assert len(prepared(stage.docker)) == 2
        slow.set()
    assert len(prepared(stage.docker)) == 5
    assert len(stage.running) == 1


@pytest.mark.parametrize("error", [Transient("image_pull_failed", "no"), Unavailable("no"), RuntimeError("a defect")])
async def test_what_cannot_be_fetched_is_logged_and_left_to_the_start(error: Exception) -> None:
    stage = Stage(TEMPLATES)
    stage.docker.fail("prepare", error)  # type: ignore[arg-type]
    with capture_logs() as logs:
        async with preparing(stage):
            told = await stage.deliver(created(**LATER))
            await asyncio.sleep(1)
            await stage.deliver(updated(1))
            await stage.deliver(start())
    assert told.letters == []
    assert {"image_not_prepared", "preparation_failed"} & {entry["event"] for entry in logs}
    assert len(stage.running) == 1


async def test_after_a_failure_the_next_booking_tries_again() -> None:
    stage = Stage(TEMPLATES)
    stage.docker.fail("prepare", Transient("image_pull_failed", "no"))
    async with preparing(stage):
        await stage.deliver(created(**LATER))
        await asyncio.sleep(1)
        await stage.deliver(created(**LATER))
    assert len(prepared(stage.docker)) == 2


async def test_what_takes_for_ever_is_given_up() -> None:
    stage = Stage(TEMPLATES)
    stage.docker.latency = 1e9
    with capture_logs() as logs:
        async with preparing(stage):
            await stage.deliver(created(**LATER))
    assert [entry["code"] for entry in logs if entry["event"] == "image_not_prepared"] == ["start_timeout"]


async def test_stopping_ends_what_is_being_fetched() -> None:
    stage = Stage(TEMPLATES)
    stage.docker.latency = 1e9
    running = asyncio.create_task(stage.preparation.run())
    await stage.deliver(created(**LATER))
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_users_who_name_many_images_fill_no_memory() -> None:
    stage = Stage(TEMPLATES)
    stage.docker.latency = 1e9
    await stage.deliver(created(**LATER))
    for version in range(1, 1100):
        stage.preparation.expect(stage.state.model_copy(update={"parameters": {"image": f"httpd:{version}"}}))
    assert stage.preparation._wanted.qsize() == 1000
