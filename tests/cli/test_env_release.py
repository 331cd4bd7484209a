"""A release is an END like any other: what it means is read off the decision table."""

from datetime import UTC, datetime

import pytest

from consumer.cli.console import Exit
from consumer.reservations import Action, decide
from schemas.events import EventKind
from schemas.outbound import Outcome
from schemas.state import Phase
from tests.cli.conftest import Invoke, Runtimes
from tests.cli.environments import RELEASE, RESOURCE, USER, means, published, run, state, state_of
from tests.support.kafka import Kafka, Message, Names


def test_a_release_is_the_end_of_the_reservation(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    known = state_of("1841", title="Lab – “web”", webhook_id="7", parameters={"image": "nginx:1"})
    topics.publish(names.state, [Message(known.to_bytes(), b"1841", partition=2), state("1842")])
    done = invoke("env", *RELEASE)
    assert (done.exit_code, done.stderr) == (Exit.OK, "")
    assert done.stdout == f"{names.inbound}/2/0  EVENT_END  1841\n"
    message, event = published(topics, names)
    assert (message.key, message.partition) == (b"1841", 2)
    assert (event.kind, event.user.id, event.resource.id) == (EventKind.END, USER.id, RESOURCE.id)
    assert (event.title, event.webhook_id, dict(event.parameters)) == ("Lab – “web”", "7", {"image": "nginx:1"})
    decision = means(known, event)
    assert (decision.action, decision.outcome) == (Action.RELEASE, Outcome.RELEASED)
    assert decision.state.phase is Phase.RELEASED


@pytest.mark.parametrize("partition", [None, 0, 1, 2, 3])
def test_it_goes_where_the_reservation_is_remembered_whatever_its_records_were_keyed_by(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, partition: int | None
) -> None:
    (placed,) = topics.publish(names.state, [state("1841", partition=partition)])
    invoke("env", *RELEASE)
    assert published(topics, names)[0].partition == placed.partition


def test_where_that_partition_does_not_exist_the_key_decides(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = f"narrow-{names.unique}"
    monkeypatch.setenv("MOORAGE_TOPICS", f"{names.inbound},{narrow}")
    topics.create(narrow, partitions=1)
    try:
        topics.publish(names.state, [state("1841", partition=3)])
        assert invoke("env", *RELEASE, "--topic", narrow).exit_code == Exit.OK
        assert [message.partition for message in topics.read(narrow)] == [0]
    finally:
        topics.forget(narrow)


def test_what_is_released_already_may_be_released_again(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    topics.publish(names.state, [state("1841", phase=Phase.RELEASED)])
    assert invoke("env", *RELEASE).exit_code == Exit.OK
    assert means(state_of("1841", phase=Phase.RELEASED), published(topics, names)[1]).action is Action.RELEASE


def test_an_environment_that_nobody_remembers_is_released_too(
    invoke: Invoke, topics: Kafka, names: Names, runtimes: Runtimes
) -> None:
    run(runtimes["memory"], "1841")
    assert invoke("env", *RELEASE).exit_code == Exit.OK
    message, event = published(topics, names)
    assert (message.key, event.kind, event.resource.id) == (b"1841", EventKind.END, RESOURCE.id)
    decision = decide(None, event, datetime.now(UTC))
    assert (decision.action, decision.state.phase) == (Action.RELEASE, Phase.RELEASED)
