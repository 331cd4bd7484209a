"""Trying again: while attempts and time last, not before the runtime wishes, and for ever when nobody answers."""

import asyncio
from datetime import timedelta

import pytest

from consumer.dispatch import Outage, RetryPolicy
from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.provisioners.memory import Call
from schemas.state import Phase
from tests.handling.stage import NAME, TEMPLATES, Stage, created, end, start, updated

LATER = Transient("runtime_error", "The runtime stumbled; it is tried again.")
NO_ANSWER = Unavailable("The runtime does not answer.")


async def test_a_transient_failure_passes_unnoticed() -> None:
    stage = Stage()
    stage.docker.fail("ensure", LATER)
    told = await stage.deliver(start())
    assert told.outcomes == [("provisioned", None)]
    assert told.letters == []
    assert [wait.fresh for wait in told.waits] == [False]


async def test_attempts_run_out() -> None:
    stage = Stage()
    for nth in (1, 2, 3):
        stage.docker.fail("ensure", LATER, nth=nth)
    told = await stage.deliver(start())
    assert told.outcomes == [("failed", "runtime_error")]
    assert (len(told.waits), len(told.letters)) == (2, 1)


async def test_a_runtime_that_asks_for_time_gets_it() -> None:
    stage = Stage()
    stage.docker.fail("ensure", Transient("runtime_busy", "busy", retry_after=45.0))
    told = await stage.deliver(start())
    assert [wait.delay for wait in told.waits] == [45.0]
    assert told.outcomes == [("provisioned", None)]


async def test_a_lost_reply_is_answered_by_looking() -> None:
    stage = Stage()
    stage.docker.lose_reply("ensure", LATER)
    assert (await stage.deliver(start())).outcomes == [("provisioned", None)]
    assert [call.operation for call in stage.docker.calls].count("remove") == 0
    assert stage.docker.violations == []


@pytest.mark.parametrize("operation", ["find", "ensure"])
async def test_a_start_waits_for_a_runtime_that_does_not_answer(operation: str) -> None:
    stage = Stage(provision_retries=RetryPolicy(max_attempts=1))
    for nth in range(1, 101):
        stage.docker.fail(operation, NO_ANSWER, nth=nth)  # type: ignore[arg-type]
    told = await stage.deliver(start())
    assert told.outcomes == [("provisioned", None)]
    assert told.letters == []
    assert told.waits == [Outage("docker")] * 100


async def test_attempts_count_anew_when_the_runtime_is_back() -> None:
    stage = Stage()
    for nth, error in enumerate((LATER, LATER, NO_ANSWER, LATER, LATER), 1):
        stage.docker.fail("ensure", error, nth=nth)
    assert (await stage.deliver(start())).outcomes == [("provisioned", None)]


async def test_waiting_for_a_runtime_ends_with_the_reservation_and_without_a_dead_letter() -> None:
    stage = Stage()
    stage.docker.reachable = False
    told = await stage.deliver(start())
    assert told.outcomes == [("skipped", "already_over")]
    assert len(told.notifications) == 1
    assert told.letters == []
    assert timedelta() <= stage.now() - stage.state.end <= timedelta(seconds=5)


async def test_an_end_waits_for_its_runtime_as_long_as_it_takes() -> None:
    stage = Stage()
    await stage.deliver(start())
    for nth in range(1, 2001):
        stage.docker.fail("remove", NO_ANSWER, nth=nth)
    told = await stage.deliver(end())
    assert told.outcomes == [("released", None)]
    assert stage.now() > stage.state.end
    assert told.letters == []


async def test_a_release_is_tried_more_often_than_a_start() -> None:
    stage = Stage()
    await stage.deliver(start())
    for nth in (1, 2, 3):
        stage.docker.fail("remove", LATER, nth=nth)
    assert (await stage.deliver(end())).outcomes == [("released", None)]


async def test_a_removal_whose_reply_was_lost_is_still_a_release() -> None:
    stage = Stage()
    await stage.deliver(start())
    stage.docker.lose_reply("remove", LATER)
    assert (await stage.deliver(end())).outcomes == [("released", None)]


async def test_a_removal_that_hangs_is_tried_again() -> None:
    stage = Stage()
    await stage.deliver(start())
    hanging = [True]

    async def latency(call: Call) -> None:
        if call.operation == "remove" and hanging:
            hanging.clear()
            await asyncio.sleep(86_400)

    stage.docker.latency = latency
    told = await stage.deliver(end())
    assert told.outcomes == [("released", None)]
    assert len(told.waits) == 1


async def test_an_end_that_cannot_be_carried_out_is_owed_but_no_start_counts_any_more() -> None:
    stage = Stage()
    await stage.deliver(start())
    stage.docker.fail("remove", Permanent("runtime_error", "never"))
    record = stage.record(end())
    told = await stage.deliver_record(record)
    assert told.outcomes == [("failed", "runtime_error")]
    assert (told.notifications, len(told.letters)) == ([], 1)
    assert stage.state.phase is Phase.RELEASED
    assert (await stage.deliver(start())).outcomes == [("skipped", "already_ended")]
    replayed = await stage.deliver_record(record)
    assert replayed.outcomes == [("released", None)]
    assert len(replayed.notifications) == 1
    assert stage.running == set()
    assert (await stage.deliver(end())).outcomes == [("released", None)]


async def test_an_end_never_seen_leaves_a_tombstone_even_if_no_runtime_can_be_asked() -> None:
    stage = Stage()
    stage.podman.fail("remove", Permanent("runtime_error", "never"))
    assert (await stage.deliver(end())).outcomes == [("failed", "runtime_error")]
    assert (await stage.deliver(start())).outcomes == [("skipped", "already_ended")]


async def test_an_end_for_a_runtime_that_was_taken_out_of_the_configuration_is_not_called_done() -> None:
    stage = Stage()
    await stage.deliver(start())
    stage.use(TEMPLATES, runtimes=("podman",))
    told = await stage.deliver(end())
    assert told.outcomes == [("failed", "runtime_not_configured")]
    stage.use(TEMPLATES)
    assert (await stage.deliver(end())).outcomes == [("released", None)]
    assert stage.running == set()


async def test_an_update_whose_release_fails_is_made_good_by_its_repetition() -> None:
    stage = Stage()
    await stage.deliver_all(created(), start())
    stage.docker.fail("remove", Permanent("runtime_error", "never"))
    shortened = updated(1, end="2026-03-02T08:30:00Z")
    told = await stage.deliver(shortened)
    assert told.outcomes == [("failed", "runtime_error")]
    assert (stage.state.phase, len(told.letters)) == (Phase.ACTIVE, 1)
    assert (await stage.deliver(shortened)).outcomes == [("released", "ended_by_update")]
    assert stage.running == set()


async def test_a_runtime_in_trouble_does_not_cost_a_repeated_start_its_environment() -> None:
    stage = Stage()
    await stage.deliver(start())
    before = stage.state
    for nth in range(1, 10):
        stage.docker.fail("find", LATER, nth=nth)
    told = await stage.deliver(start())
    assert told.results == []
    assert len(told.letters) == 1
    assert stage.running == {NAME}
    assert stage.state == before


async def test_a_repeated_start_whose_environment_is_seen_again_leaves_it_alone() -> None:
    stage = Stage()
    await stage.deliver(start())
    for nth in (1, 2, 3):
        stage.docker.fail("find", LATER, nth=nth)
    told = await stage.deliver(start())
    assert (told.results, len(told.letters), stage.running) == ([], 1, {NAME})


async def test_a_lost_environment_that_cannot_be_made_again_has_failed() -> None:
    stage = Stage()
    await stage.deliver(start())
    stage.docker._made.clear()
    stage.docker.fail("ensure", Permanent("image_not_found", "Gone."))
    told = await stage.deliver(start())
    assert told.outcomes == [("failed", "image_not_found")]
    assert len(told.notifications) == len(told.letters) == 1
    assert stage.state.phase is Phase.FAILED


async def test_what_was_made_again_and_never_announced_is_cleaned_up() -> None:
    stage = Stage()
    await stage.deliver(start())
    stage.docker._made.clear()
    stage.docker.lose_reply("ensure", Permanent("exited_at_start", "It ended at once."))
    told = await stage.deliver(start())
    assert told.outcomes == [("failed", "exited_at_start")]
    assert stage.running == set()


async def test_a_repeated_end_does_not_undo_what_was_told_when_the_runtime_fails() -> None:
    stage = Stage()
    await stage.deliver_all(start(), end())
    stage.docker.fail("remove", Permanent("runtime_error", "never"))
    told = await stage.deliver(end())
    assert (told.results, len(told.letters)) == ([], 1)
    assert stage.state.phase is Phase.RELEASED
    assert stage.state.reason is None


async def test_runtimes_that_hang_when_asked_what_runs_are_asked_again() -> None:
    stage = Stage()
    await stage.deliver(start())
    slow = [True]

    async def latency(call: Call) -> None:
        if call.operation == "find" and slow:
            slow.clear()
            await asyncio.sleep(86_400)

    stage.docker.latency = latency
    told = await stage.deliver(start())
    assert told.outcomes == [("provisioned", None)]
    assert len(told.waits) == 1
