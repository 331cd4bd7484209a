"""From a record's bytes to what is published, when everything works."""

import json
from datetime import timedelta

from consumer.handling.publications import Channel
from schemas.outbound import NotificationType
from schemas.state import Phase, ReservationState
from tests.handling.stage import NAME, NINE, Stage, created, deleted, end, start, updated

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_start_provisions_and_tells_how_to_get_in() -> None:
    stage = Stage()
    told = await stage.deliver(start(), headers=(("traceparent", TRACE),))
    assert stage.running == {NAME}
    (result,) = told.results
    assert (result.outcome, result.event_id, result.runtime, result.template) == (
        "provisioned",
        "1841",
        "docker",
        "linux",
    )
    assert result.environment == NAME
    assert result.access is not None
    assert result.access.url == "http://lab.example.org:20001"
    assert result.access.ssh == "ssh -p 20000 user@lab.example.org"
    (note,) = told.notifications
    assert note.message == (
        "GPU Server 1 is ready until 10:00 UTC. Log in: ssh -p 20000 user@lab.example.org · "
        "In a browser: http://lab.example.org:20001"
    )
    assert note.type is NotificationType.SUCCESS
    assert (note.user_id, note.event_type, note.webhook_id) == (result.user_id, "EVENT_START", "7")
    assert note.metadata == {
        "resultId": result.id,
        "outcome": "provisioned",
        "runtime": "docker",
        "host": "lab.example.org",
        "ports": {"80": 20001, "22": 20000},
    }
    headers = [dict(each.headers) for each in told.on(Channel.OUTBOUND)]
    assert [each["traceparent"] for each in headers] == [TRACE, TRACE]
    assert headers[0]["ce_type"] == b"io.moorage.result.provisioned.v1"
    assert headers[0]["ce_source"] == b"/moorage/lab"
    assert [each.key for each in told.on(Channel.OUTBOUND)] == [b"1841", b"1841"]


async def test_the_state_goes_to_the_partition_that_the_event_came_from() -> None:
    stage = Stage()
    told = await stage.deliver(start())
    (written,) = told.on(Channel.STATE)
    assert (written.key, written.partition) == (b"1841", 3)
    assert ReservationState.model_validate_json(written.value or b"") == stage.state
    assert told.publications[-1] == written


async def test_a_broken_traceparent_is_not_passed_on_and_does_no_harm() -> None:
    for broken in (None, b"", b"\xff", b"00-0-0-0"):
        told = await Stage().deliver(start(), headers=(("traceparent", broken),))
        assert told.outcomes == [("provisioned", None)]
        assert "traceparent" not in dict(told.publications[0].headers)


async def test_an_end_takes_the_environment_away() -> None:
    stage = Stage()
    await stage.deliver(start())
    told = await stage.deliver(end())
    assert stage.running == set()
    assert told.outcomes == [("released", None)]
    assert [note.message for note in told.notifications] == [
        "Your environment on GPU Server 1 was removed. The reservation has ended."
    ]
    assert stage.state.phase is Phase.RELEASED


async def test_a_deletion_needs_no_user_name_and_takes_the_environment_away() -> None:
    stage = Stage()
    await stage.deliver(start())
    assert (await stage.deliver(deleted())).outcomes == [("released", None)]
    assert stage.running == set()


async def test_an_end_of_what_never_ran_is_told_to_machines_only() -> None:
    for ending in (end(), deleted()):
        stage = Stage()
        told = await stage.deliver(ending)
        assert told.outcomes == [("skipped", "nothing_to_release")]
        assert told.notifications == []
        assert (await stage.deliver(start())).outcomes == [("skipped", "already_ended")]
        assert stage.running == set()


async def test_an_end_finds_what_another_life_made_on_whatever_runtime() -> None:
    stage = Stage()
    await stage.deliver(start(resourceType="Pod"))
    assert stage.podman.names()
    stage.states.remembered.clear()
    assert (await stage.deliver(end())).outcomes == [("released", None)]
    assert stage.running == set()


async def test_created_is_noted_and_an_extension_told() -> None:
    stage = Stage()
    noted, _, extended = await stage.deliver_all(created(), start(), updated(1))
    assert noted.outcomes == [("skipped", "remembered")]
    assert extended.outcomes == [("updated", None)]
    (note,) = extended.notifications
    assert note.message == (
        "GPU Server 1 now runs until 12:00 UTC. You get in as before. "
        "Log in: ssh -p 20000 user@lab.example.org · In a browser: http://lab.example.org:20001"
    )
    assert stage.state.end == NINE + timedelta(hours=3)
    assert stage.running == {NAME}


async def test_a_shortened_reservation_is_released_and_comes_back_when_it_is_prolonged() -> None:
    stage = Stage()
    await stage.deliver_all(created(), start())
    over = await stage.deliver(updated(1, end="2026-03-02T08:30:00Z"))
    assert over.outcomes == [("released", "ended_by_update")]
    assert over.notifications[0].message == (
        "Your environment on GPU Server 1 was removed. The reservation was shortened and is over. "
        "Book again if you still need it."
    )
    assert stage.running == set()
    assert (await stage.deliver(updated(2))).outcomes == [("provisioned", None)]
    assert stage.running == {NAME}


async def test_a_postponed_reservation_is_released_and_runs_at_its_new_start() -> None:
    stage = Stage()
    await stage.deliver_all(created(), start())
    postponed = await stage.deliver(updated(1, start="2026-03-02T11:00:00Z"))
    assert postponed.outcomes == [("released", "postponed")]
    assert postponed.notifications[0].message.endswith(
        "The reservation was moved into the future. You get a new one at 11:00 UTC."
    )
    assert stage.running == set()
    assert (await stage.deliver(start())).outcomes == [("skipped", "too_early")]
    await stage.sleep_until(10, 55)
    assert (await stage.deliver(start())).outcomes == [("provisioned", None)]


async def test_a_ping_is_done_without_a_word() -> None:
    told = await Stage().deliver({"eventType": "ALL", "timestamp": "2026-03-02T07:00:00Z", "webhookId": "7"})
    assert told.publications == ()


async def test_nothing_secret_leaves_in_results_notifications_and_dead_letters() -> None:
    parameters = json.dumps({"environment": "TOKEN=hunter2"})
    stage = Stage()
    for document in (start(customParameters=parameters), updated(1, customParameters=parameters), end()):
        told = await stage.deliver(document)
        for each in (*told.on(Channel.OUTBOUND), *told.letters):
            assert b"hunter2" not in (each.value or b"")
            assert b"ssh-ed25519" not in (each.value or b"")
