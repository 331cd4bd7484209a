"""Failure has three exits, and they are never mixed up."""

import asyncio

import pytest

from consumer.catalog.environment import EnvironmentSpec
from consumer.dispatch import Done, Work
from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.handling.ports import Environment, Progress, Report
from consumer.handling.records import Item
from consumer.handling.routing import route
from consumer.provisioners.memory import Call, Latency
from schemas.deadletter import parse_dead_letter
from schemas.outbound import NotificationType
from schemas.state import Phase
from tests.handling.stage import KEY, NAME, TEMPLATES, Stage, created, end, resource, start, updated

NEVER = Permanent("image_not_found", "The registry has no image nginx:1.27; ask for another one.")


# Cannot be read


@pytest.mark.parametrize(
    ("raw", "code"),
    [(None, "empty"), (b"{", "not_json"), (b"[]", "not_an_object"), (b'{"eventType":"NOPE"}', "unknown_event_type")],
)
async def test_what_cannot_be_read_is_a_dead_letter_to_the_byte_and_nothing_else(raw: bytes | None, code: str) -> None:
    stage = Stage()
    record = stage.record(raw, key=b"\xff\x00", headers=(("h", b"\x01"), ("h", None)))
    told = await stage.deliver_record(record)
    (letter,) = told.publications
    assert (letter.key, letter.value, letter.partition) == (b"\xff\x00", raw, None)
    parsed = parse_dead_letter(letter.key, letter.value, letter.headers)
    assert parsed.headers == record.headers
    assert (parsed.topic, parsed.partition, parsed.offset) == ("reservations", 3, record.offset)
    assert (parsed.timestamp_ms, parsed.instance, parsed.error_code) == (record.timestamp_ms, "lab", code)
    assert parsed.failed_at == stage.now()
    assert stage.states.remembered == {}


# Refused by policy


async def test_what_policy_refuses_is_told_and_is_no_dead_letter() -> None:
    stage = Stage()
    told = await stage.deliver(start(customParameters='{"image": "evil:1"}'))
    assert told.outcomes == [("failed", "image_not_allowed")]
    (note,) = told.notifications
    assert note.type is NotificationType.ERROR
    assert note.message == (
        'GPU Server 1 is not available. The image "evil:1" is not allowed here. Ask for one of: nginx:1.27, httpd:*.'
    )
    assert (told.letters, told.waits, stage.running) == ([], [], set())
    assert stage.state.phase is Phase.FAILED


async def test_the_same_refusal_is_told_to_a_person_once() -> None:
    stage = Stage()
    first, again = await stage.deliver_all(*[start(customParameters='{"image": "evil:1"}')] * 2)
    assert again.ids == first.ids[:1]
    assert again.notifications == []


async def test_a_refused_reservation_runs_after_it_was_corrected() -> None:
    stage = Stage()
    await stage.deliver_all(created(), start(customParameters='{"image": "evil:1"}'))
    corrected = await stage.deliver(updated(1, customParameters='{"image": "httpd:2"}'))
    assert corrected.outcomes == [("provisioned", None)]
    assert corrected.results[0].image == "docker.io/library/httpd:2"


async def test_a_resource_without_a_template_is_refused() -> None:
    told = await Stage().deliver(start(resourceType="Blackboard"))
    assert told.outcomes == [("failed", "no_template")]


async def test_a_start_that_comes_too_late_is_skipped_and_told() -> None:
    stage = Stage()
    await stage.deliver(created())
    await stage.sleep_until(10)
    told = await stage.deliver(start())
    assert told.outcomes == [("skipped", "already_over")]
    (note,) = told.notifications
    assert note.type is NotificationType.WARNING
    assert note.message == (
        "GPU Server 1 was not started. The reservation's end had passed when its start arrived. "
        "Book again if you still need it."
    )
    assert told.letters == []


# Could not be done


async def test_what_could_not_be_done_is_cleaned_up_told_and_a_dead_letter() -> None:
    stage = Stage()
    stage.docker.lose_reply("ensure", NEVER)
    record = stage.record(start(), key=None, headers=(("x", b"y"),))
    told = await stage.deliver_record(record)
    assert stage.running == set()
    assert told.outcomes == [("failed", "image_not_found")]
    (note,) = told.notifications
    assert note.message == (
        f"GPU Server 1 is not available. {NEVER.message} "
        "If you chose the image, check its name. If not, ask whoever runs this service."
    )
    (letter,) = told.letters
    assert (letter.key, letter.value) == (None, record.value)
    parsed = parse_dead_letter(letter.key, letter.value, letter.headers)
    assert (parsed.headers, parsed.error_code, parsed.error_message) == ((("x", b"y"),), NEVER.code, NEVER.message)
    assert stage.state.phase is Phase.FAILED
    assert stage.state.runtime is None


async def test_a_replayed_dead_letter_tries_again() -> None:
    stage = Stage()
    stage.docker.fail("ensure", NEVER)
    record = stage.record(start())
    await stage.deliver_record(record)
    assert (await stage.deliver_record(record)).outcomes == [("provisioned", None)]


async def test_a_replay_that_fails_the_same_way_does_not_tell_the_person_again() -> None:
    stage = Stage()
    for nth in (1, 2):
        stage.docker.fail("ensure", NEVER, nth=nth)
    first, again = await stage.deliver_all(start(), start())
    assert len(first.notifications) == 1
    assert (again.outcomes, again.notifications) == (first.outcomes, [])
    assert len(again.letters) == 1


async def test_a_clean_up_that_fails_leaves_the_rest_to_the_end() -> None:
    stage = Stage()
    stage.docker.lose_reply("ensure", NEVER)
    stage.docker.fail("remove", Transient("runtime_error", "no"))
    told = await stage.deliver(start())
    assert told.outcomes == [("failed", "image_not_found")]
    assert stage.running == {NAME}
    assert (await stage.deliver(end())).outcomes == [("released", None)]
    assert stage.running == set()


async def test_one_runtime_in_trouble_does_not_keep_another_from_being_cleaned_up() -> None:
    stage = Stage()
    stage.podman.lose_reply("ensure", NEVER)
    stage.docker.fail("remove", Unavailable("gone"))
    told = await stage.deliver(start(resourceType="Pod"))
    assert told.outcomes == [("failed", "image_not_found")]
    assert stage.running == set()


async def test_one_runtime_that_hangs_does_not_keep_another_from_being_cleaned_up() -> None:
    stage = Stage()
    stage.podman.lose_reply("ensure", NEVER)
    stage.docker.latency = _hang_at("remove")
    await stage.deliver(start(resourceType="Pod"))
    assert stage.running == set()


async def test_an_environment_that_does_not_come_up_in_time_is_given_up() -> None:
    stage = Stage(start_timeout=20.0)
    stage.docker.latency = _hang_at("ensure")
    told = await stage.deliver(start())
    assert told.outcomes == [("failed", "start_timeout")]
    assert (stage.now() - stage.state.changed_at).total_seconds() == 20.0
    assert len(told.letters) == 1


@pytest.mark.parametrize(
    ("step", "tells"),
    [
        (Progress("creating", "r-1"), "It was still being created."),
        (Progress("pulling", "web:1"), "Its image was still being fetched."),
        (
            Progress("scheduling", "0/2 nodes are available."),
            "No node of the cluster had taken it: 0/2 nodes are available.",
        ),
        (Progress("waiting", "Nothing answered on port 80"), "It ran, but was not ready: Nothing answered on port 80."),
        (Progress("routing", "r-1"), "No Gateway had taken its HTTPRoute."),
        (Progress("invented later", ""), "in the time that was left for it."),
    ],
)
async def test_what_was_going_on_when_the_time_was_over_is_told(step: Progress, tells: str) -> None:
    stage = Stage(start_timeout=20.0)

    async def hang(spec: EnvironmentSpec, report: Report) -> Environment:
        report(step)
        await asyncio.sleep(60.0)
        raise AssertionError("nobody waits for so long")

    stage.lifecycle._runtimes["docker"].ensure = hang  # type: ignore[method-assign]

    (result,) = (await stage.deliver(start())).results

    assert result.reason is not None
    assert (result.reason.code, result.reason.message.endswith(tells)) == ("start_timeout", True)


async def test_a_template_may_grant_its_own_time() -> None:
    stage = Stage(TEMPLATES.replace("ports: 80, 22", "ports: 80, 22\n    start_timeout: 90"), start_timeout=20.0)
    stage.docker.latency = _hang_at("ensure")
    await stage.deliver(start())
    assert (stage.now() - stage.state.changed_at).total_seconds() == 90.0


async def test_nothing_is_tried_beyond_the_end_of_the_reservation() -> None:
    stage = Stage()
    stage.docker.latency = _hang_at("ensure")
    await stage.sleep_until(9, 59)
    told = await stage.deliver(start())
    assert told.outcomes == [("failed", "start_timeout")]
    assert stage.now() == stage.state.end


async def test_a_wait_that_would_outlast_the_reservation_is_not_begun() -> None:
    stage = Stage()
    stage.docker.fail("ensure", Transient("image_pull_failed", "later", retry_after=120.0))
    await stage.sleep_until(9, 59)
    told = await stage.deliver(start())
    assert (told.outcomes, told.waits) == ([("failed", "image_pull_failed")], [])
    assert len(told.letters) == 1


async def test_time_that_earlier_attempts_used_up_is_not_there_again() -> None:
    stage = Stage(start_timeout=20.0)
    stage.docker.fail("ensure", Transient("image_pull_failed", "later", retry_after=20.0))
    told = await stage.deliver(start())
    assert told.outcomes == [("failed", "start_timeout")]
    assert [call.operation for call in stage.docker.calls] == ["find", "ensure", "remove"]


async def test_a_template_for_a_runtime_that_is_not_here_fails_for_good() -> None:
    stage = Stage()
    stage.use(TEMPLATES, runtimes=("podman",))
    told = await stage.deliver(start())
    assert told.outcomes == [("failed", "runtime_not_configured")]
    assert (told.waits, len(told.letters)) == ([], 1)


async def test_a_defect_costs_its_record_only_and_does_not_tell_what_it_was_about() -> None:
    stage = Stage()

    def broken(*args: object) -> None:
        raise RuntimeError("password=hunter2")

    stage.lifecycle._catalog.resolve = broken  # type: ignore[method-assign,assignment]
    told = await stage.deliver(start())
    (letter,) = told.publications
    parsed = parse_dead_letter(letter.key, letter.value, letter.headers)
    assert parsed.error_code == "internal_error"
    assert parsed.error_message == "RuntimeError while handling this record: a defect of Moorage; see its log."


@pytest.mark.parametrize("operation", ["find", "ensure", "remove"])
async def test_a_cancellation_is_passed_on(operation: str) -> None:
    stage = Stage()
    if operation == "remove":
        await stage.deliver(start())
    stage.docker.latency = _hang_at(operation)
    work = _work(stage, end() if operation == "remove" else start())
    task = asyncio.create_task(stage.handler.handle(work))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_start_is_made_good_by_the_next_one() -> None:
    stage = Stage()
    stage.docker.lose_reply("ensure", Transient("runtime_error", "no"))
    work = _work(stage, start())
    work.attempt, work.started_at = 1, asyncio.get_running_loop().time()
    assert not isinstance(await stage.handler.handle(work), Done)
    assert stage.running == {NAME}
    assert stage.states.remembered == {}
    told = await stage.deliver(start())
    assert told.outcomes == [("provisioned", None)]
    assert stage.docker.max_live_per_key == {KEY: 1}


def _work(stage: Stage, content: dict[str, object]) -> Work[Item]:
    record = stage.record(content)
    ((lane, item),) = route(record, max_bytes=1_000_000)
    return Work(stage.assignment, record.offset, lane, item, record.size, 0.0)


def _hang_at(operation: str) -> Latency:
    async def latency(call: Call) -> None:
        if call.operation == operation:
            await asyncio.sleep(86_400)

    return latency


async def test_what_a_failed_start_left_is_gone_before_there_is_another_elsewhere() -> None:
    stage = Stage()
    stage.docker.lose_reply("ensure", Permanent("runtime_error", "It broke."))
    stage.docker.fail("remove", Permanent("forbidden", "No."))
    assert (await stage.deliver(start())).outcomes == [("failed", "runtime_error")]
    assert (stage.running, stage.state.environment) == ({NAME}, NAME)
    told = await stage.deliver(start(resourceType="Pod"))
    assert told.outcomes == [("provisioned", None)]
    assert stage.docker.names() == set()
    assert len(stage.podman.names()) == 1


async def test_while_what_a_failed_start_left_cannot_be_removed_there_is_no_other_elsewhere() -> None:
    stage = Stage()
    stage.docker.lose_reply("ensure", Permanent("runtime_error", "It broke."))
    for nth in range(1, 50):
        stage.docker.fail("remove", Permanent("forbidden", "No."), nth=nth)
    await stage.deliver(start())
    told = await stage.deliver(start(resourceType="Pod"))
    assert told.outcomes == [("failed", "forbidden")]
    assert stage.podman.names() == set()


async def test_a_move_that_cannot_begin_and_could_not_be_told_either_owes_what_is_there() -> None:
    stage = Stage()
    await stage.deliver_all(created(), start())
    for nth in range(1, 50):
        stage.docker.fail("remove", Permanent("forbidden", "No."), nth=nth)
    told = await stage.deliver(updated(1, resource=resource(kind="Nothing")))
    assert told.outcomes == [("failed", "forbidden")]
    assert stage.state.environment is not None
