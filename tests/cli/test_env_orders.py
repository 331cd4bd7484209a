"""Releasing and extending are asked for, published once, and followed up when somebody waits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from consumer.cli.console import Exit
from consumer.cli.env import orders
from consumer.handling.errors import Unavailable
from consumer.provisioners.memory import MemoryEngine, MemoryProvisioner
from schemas.cloudevents import message_headers, result_type
from schemas.events import ReservationEvent
from schemas.outbound import Outcome, Reason, Result
from tests.cli.conftest import Invoke, Runtimes
from tests.cli.environments import END, EXTEND, NOW, RELEASE, event_of, run, state
from tests.support.kafka import Kafka, Message, Names


@pytest.mark.parametrize("order", [RELEASE, EXTEND])
def test_what_nobody_knows_is_refused(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, order: tuple[str, ...]
) -> None:
    topics.publish(names.state, [state("1842"), Message(b"", b"")])
    done = invoke("env", *order)
    assert (done.exit_code, done.stdout) == (Exit.NOT_FOUND, "")
    assert "Nothing is remembered of 1841" in done.stderr
    assert topics.count(names.inbound) == 0


def test_what_a_silent_runtime_may_know_is_not_called_unknown(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    engine = MemoryEngine()
    engine.fail("find", Unavailable("The engine is off."))
    runtimes["memory"] = MemoryProvisioner(engine)
    assert invoke("env", *RELEASE).exit_code == Exit.FAILED


@pytest.mark.parametrize("order", [RELEASE, EXTEND])
def test_a_reservation_whose_state_cannot_be_read_is_left_alone(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, order: tuple[str, ...]
) -> None:
    run(runtimes["memory"], "1841")
    topics.publish(names.state, [Message(b'{"version":2}', b"1841", partition=0), state("1841", partition=1)])
    done = invoke("env", *order)
    assert done.exit_code == Exit.FAILED
    assert "The state of 1841 cannot be read" in done.stderr
    assert topics.count(names.inbound) == 0


@pytest.mark.usefixtures("no_kafka")
@pytest.mark.parametrize("order", [RELEASE, EXTEND])
def test_without_kafka_nothing_is_done(invoke: Invoke, runtimes: Runtimes, order: tuple[str, ...]) -> None:
    done = invoke("env", *order)
    assert (done.exit_code, done.stdout) == (Exit.FAILED, "")
    assert "error No Kafka broker answers at 127.0.0.1:1" in done.stderr


@pytest.mark.parametrize("order", [RELEASE, EXTEND])
def test_without_a_terminal_it_is_not_done_unless_told(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, order: tuple[str, ...]
) -> None:
    topics.publish(names.state, [state("1841")])
    done = invoke("env", *order[:-1], stdin="y\n")
    assert done.exit_code == Exit.USAGE
    assert "--yes" in done.stderr
    assert topics.count(names.inbound) == 0


@pytest.mark.parametrize(("answer", "count"), [("y\n", 1), ("n\n", 0), ("\n", 0)])
@pytest.mark.parametrize("order", [RELEASE, EXTEND])
def test_on_a_terminal_it_asks(
    invoke: Invoke,
    topics: Kafka,
    names: Names,
    runtimes: Runtimes,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[str, ...],
    answer: str,
    count: int,
) -> None:
    monkeypatch.setattr(orders, "_somebody_there", lambda: True)
    topics.publish(names.state, [state("1841")])
    done = invoke("env", *order[:-1], stdin=answer)
    assert f"1841 (mario_rossi on GPU Server 1, ACTIVE, until {END:%Y-%m-%d %H:%M:%SZ})" in done.stderr
    assert done.exit_code == Exit.OK
    assert topics.count(names.inbound) == count


def test_a_question_quotes_nobodys_control_characters(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_somebody_there", lambda: True)
    evil = "[red]\x1b[2J\u202e"
    topics.publish(names.state, [state(evil)])
    done = invoke("env", "release", evil, stdin="n\n")
    # An id that no event may have is refused before anybody is asked.
    assert done.exit_code == Exit.FAILED
    assert "[red] does not make an event that can be read: `eventId` must have printable" in done.stderr
    assert not set("\x1b\u202e") & set(done.stderr)


def test_of_several_topics_the_first_is_used_and_said(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_TOPICS", f"{names.inbound},other")
    topics.publish(names.state, [state("1841")])
    done = invoke("env", *RELEASE)
    assert f"publishing to {names.inbound}, the first of MOORAGE_TOPICS" in done.stderr
    assert topics.count(names.inbound) == 1
    wrong = invoke("env", *RELEASE, "--topic", names.state)
    assert wrong.exit_code == Exit.USAGE
    assert "MOORAGE_TOPICS" in wrong.stderr


Answer = Callable[[Message, ReservationEvent], list[Message]]


@contextmanager
def somebody_who_answers(topics: Kafka, names: Names, answer: Answer) -> Iterator[None]:
    """Publishes what `answer` makes of the first record, as soon as it is there."""
    gone = threading.Event()

    def serve() -> None:
        with Kafka(topics.bootstrap_servers) as kafka:
            while not gone.wait(0.05):
                if found := kafka.read(names.inbound):
                    kafka.publish(names.outbound, answer(found[0], event_of(found[0])))
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        gone.set()
        thread.join()


def told(event: ReservationEvent, outcome: Outcome, trace: bytes | None, reason: Reason | None = None) -> Message:
    body = Result(
        id="1",
        outcome=outcome,
        event_id=event.reservation_id,
        event_type=event.kind,
        revision="1",
        instance="default",
        user_id=event.user.id,
        resource_id=event.resource.id,
        start=event.start,
        end=event.end,
        reason=reason,
        occurred_at=NOW,
    )
    subject = event.reservation_id
    headers = message_headers(
        id="1", type=result_type(outcome), source="/x", subject=subject, time=NOW, traceparent=trace
    )
    return Message(body.to_bytes(), subject.encode(), tuple(headers))


def trace_of(message: Message) -> bytes | None:
    return dict(message.headers)["traceparent"]


STALE = Reason(code="stale_update", message="A newer version is known.")


@pytest.mark.parametrize(
    ("order", "outcome", "reason", "code"),
    [
        (RELEASE, Outcome.RELEASED, None, Exit.OK),
        (RELEASE, Outcome.SKIPPED, Reason(code="nothing_to_release", message="Nothing."), Exit.OK),
        (RELEASE, Outcome.FAILED, Reason(code="broken", message="Disk full."), Exit.FAILED),
        (EXTEND, Outcome.UPDATED, None, Exit.OK),
        (EXTEND, Outcome.PROVISIONED, None, Exit.OK),
        (EXTEND, Outcome.SKIPPED, STALE, Exit.FAILED),
        (EXTEND, Outcome.FAILED, Reason(code="broken", message="Disk full."), Exit.FAILED),
    ],
)
def test_what_came_of_it_is_waited_for_and_told(
    invoke: Invoke,
    topics: Kafka,
    names: Names,
    runtimes: Runtimes,
    order: tuple[str, ...],
    outcome: Outcome,
    reason: Reason | None,
    code: Exit,
) -> None:
    topics.publish(names.state, [state("1841")])

    def answer(message: Message, event: ReservationEvent) -> list[Message]:
        # What happens to the reservation for other reasons is not what is waited for.
        return [told(event, Outcome.EXPIRED, None), told(event, outcome, trace_of(message), reason)]

    with somebody_who_answers(topics, names, answer):
        done = invoke("env", *order, "--wait", "20")
    assert done.exit_code == code
    line = done.stdout.splitlines()[-1]
    assert line.split("  ")[1:3] == ["1841", outcome]
    assert (f"{reason.code}: {reason.message}" if reason else "  -") in line
    assert ("was not" in done.stderr) == (code is not Exit.OK and (order, outcome) != (EXTEND, Outcome.FAILED))
    assert ("but its environment could not be started" in done.stderr) == ((order, outcome) == (EXTEND, Outcome.FAILED))


@pytest.mark.parametrize("order", [RELEASE, EXTEND])
def test_when_nothing_comes_of_it_in_time_that_is_told(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, order: tuple[str, ...]
) -> None:
    topics.publish(names.state, [state("1841")])
    done = invoke("env", *order, "--wait", "0.5")
    assert done.exit_code == Exit.UNFINISHED
    assert "No result came within 0.5 s. The event is published" in done.stderr
    assert topics.count(names.inbound) == 1


def test_what_cannot_be_followed_is_not_published(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_OUTBOUND_TOPIC", "no-such-topic")
    topics.publish(names.state, [state("1841")])
    done = invoke("env", *RELEASE, "--wait", "1")
    assert done.exit_code == Exit.FAILED
    assert "has no topic no-such-topic" in done.stderr
    assert topics.count(names.inbound) == 0
