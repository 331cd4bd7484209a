"""An extension is an UPDATED like any other: what it means is read off the decision table."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.cli.console import Exit
from consumer.cli.env import orders
from consumer.reservations import Action
from schemas.events import EventKind, ReservationEvent
from schemas.inbound import decode
from schemas.outbound import Outcome, Reason
from schemas.state import Phase
from tests.cli.conftest import Invoke, Runtimes
from tests.cli.environments import (
    END,
    EXTEND,
    HOUR,
    NOW,
    means,
    published,
    state,
    state_of,
)
from tests.support.kafka import Kafka, Message, Names

LATER = END + HOUR
VERSION = NOW - timedelta(days=1)


@pytest.mark.parametrize("version", [None, VERSION, NOW + timedelta(days=400)])
def test_an_extension_is_an_update_with_another_end_and_all_else_as_it_was(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, version: datetime | None
) -> None:
    parameters = {"image": "nginx:1.27", "Größe": '"2 GiB"\n\\'}
    known = state_of("1841", title="Lab", webhook_id="7", parameters=parameters, booking_version=version)
    topics.publish(names.state, [Message(known.to_bytes(), b"1841", partition=1)])
    done = invoke("env", *EXTEND)
    assert done.exit_code == Exit.OK, done.stderr
    assert done.stdout == f"{names.inbound}/1/0  EVENT_UPDATED  1841\n"
    assert "The platform does not know of this" in done.stderr
    message, event = published(topics, names)
    assert set(json.loads(message.value or b"")) == {"eventType", "timestamp", "webhookId", "data"}
    assert (message.key, event.kind) == (b"1841", EventKind.UPDATED)
    assert event.updated_at is not None
    assert event.updated_at > (version or VERSION)

    decision = means(known, event)
    assert (decision.action, decision.outcome, decision.notify) == (Action.NOTHING, Outcome.UPDATED, True)
    changed = {"end", "booking_version", "revision", "changed_at"}
    assert decision.state.model_dump(exclude=changed) == known.model_dump(exclude=changed)
    assert decision.state.end == LATER


def test_an_update_that_was_under_way_wins_over_an_extension_that_did_not_know_it() -> None:
    known = state_of("1841", booking_version=VERSION)
    meanwhile = known.model_copy(update={"booking_version": VERSION + timedelta(milliseconds=1)})
    (event,) = decode(orders.extended_event(known, LATER, NOW))
    assert isinstance(event, ReservationEvent)
    assert means(known, event).outcome is Outcome.UPDATED
    assert means(meanwhile, event).reason == Reason(
        code="stale_update", message="A newer version of the reservation is already known."
    )


@pytest.mark.parametrize(
    ("how", "end"),
    [
        (["--until", f"{LATER:%Y-%m-%dT%H:%M:%SZ}"], LATER),
        (["--until", f"{LATER.astimezone(UTC) + HOUR:%Y-%m-%d %H:%M:%S}+01:00"], LATER),
        (["--by", "1h30m"], END + timedelta(minutes=90)),
        (["--by", "2d 5s"], END + timedelta(days=2, seconds=5)),
    ],
)
def test_the_end_is_told_as_a_moment_or_as_a_span(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, how: list[str], end: datetime
) -> None:
    topics.publish(names.state, [state("1841")])
    assert invoke("env", "extend", "1841", "--yes", *how).exit_code == Exit.OK
    assert published(topics, names)[1].end == end


@pytest.mark.parametrize(
    "known",
    [
        {"phase": Phase.FAILED, "booking_version": VERSION},
        {
            "phase": Phase.PENDING,
            "booking_version": VERSION,
            "start": NOW - 3 * HOUR,
            "end": NOW - timedelta(minutes=1),
        },
    ],
    ids=["failed", "expired"],
)
def test_what_does_not_run_any_more_is_started_by_an_extension_and_the_question_says_so(
    invoke: Invoke,
    topics: Kafka,
    names: Names,
    runtimes: Runtimes,
    monkeypatch: pytest.MonkeyPatch,
    known: dict[str, Any],
) -> None:
    monkeypatch.setattr(orders, "_somebody_there", lambda: True)
    topics.publish(names.state, [state("1841", **known)])
    done = invoke("env", "extend", "1841", "--by", "1h", stdin="y\n")
    assert "Its environment will be started." in done.stderr
    assert means(state_of("1841", **known), published(topics, names)[1]).action is Action.PROVISION


def test_an_extension_that_would_end_it_is_refused(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    # A START is taken at its word, and ran; the update that says when it begins would be another matter.
    topics.publish(names.state, [state("1841", start=NOW + HOUR)])
    done = invoke("env", *EXTEND)
    assert done.exit_code == Exit.FAILED
    assert "1841 cannot be extended: to Moorage, the update would mean released" in done.stderr
    assert topics.count(names.inbound) == 0


def test_an_end_that_is_the_same_is_no_news(invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes) -> None:
    topics.publish(names.state, [state("1841")])
    done = invoke("env", "extend", "1841", "--until", END.isoformat(), "--yes")
    assert (done.exit_code, topics.count(names.inbound)) == (Exit.OK, 0)
    assert "nothing was published" in done.stderr


@pytest.mark.parametrize(
    ("known", "how", "code", "says"),
    [
        ({"phase": Phase.RELEASED}, ["--by", "1h"], Exit.FAILED, "1841 has ended, and what ended does not start again"),
        (
            {},
            ["--until", "2020-01-01T00:00:00Z"],
            Exit.USAGE,
            "2020-01-01 00:00:00Z is not in the future. 1841 ends at",
        ),
        ({"start": NOW - 4 * HOUR, "end": NOW - 3 * HOUR}, ["--by", "1h"], Exit.USAGE, "is not in the future"),
        ({}, ["--until", (END - HOUR).isoformat()], Exit.USAGE, "would be earlier: 1841 ends at"),
    ],
)
def test_what_makes_no_sense_is_refused(
    invoke: Invoke,
    topics: Kafka,
    names: Names,
    runtimes: Runtimes,
    known: dict[str, Any],
    how: list[str],
    code: Exit,
    says: str,
) -> None:
    topics.publish(names.state, [state("1841", **known)])
    done = invoke("env", "extend", "1841", "--yes", *how)
    assert (done.exit_code, done.stdout) == (code, "")
    assert says in done.stderr
    assert topics.count(names.inbound) == 0


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ([], "either --until"),
        (["--by", "1h", "--until", "2999-01-01T00:00:00Z"], "either --until"),
        (["--until", "2998-03-02T10:00:00"], "does not say in which zone"),
        (["--until", "2998-03-02"], "does not say in which zone"),
        (["--until", "tomorrow"], "is no date and time"),
        (["--until", "9999-12-31T23:59:59-12:00"], "is not in the years"),
        (["--by", "soon"], "is no span of time"),
        (["--by", ""], "is no span of time"),
        (["--by", "-1h"], "is no span of time"),
        (["--by", "0h"], "is no span of time"),
    ],
)
def test_times_that_could_mean_anything_are_used_wrongly(invoke: Invoke, how: list[str], says: str) -> None:
    done = invoke("env", "extend", "1841", "--yes", *how)
    assert done.exit_code == Exit.USAGE
    assert says in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("end", "code", "says"),
    [
        (datetime(2990, 1, 1, tzinfo=UTC), Exit.FAILED, "`data.end` is not in the years 1970 to 2999"),
        (datetime.max.replace(tzinfo=UTC), Exit.USAGE, "later than calendars go"),
    ],
)
def test_an_end_beyond_all_calendars_is_refused(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, end: datetime, code: Exit, says: str
) -> None:
    topics.publish(names.state, [state("1841", end=end)])
    done = invoke("env", "extend", "1841", "--yes", "--by", "9999d")
    assert done.exit_code == code
    assert says in done.stderr
    assert topics.count(names.inbound) == 0
