"""What goes out and what is remembered: bounds, ids, and that it reads back the same."""

import json
import uuid
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.events import Resource, User
from schemas.examples import example_result, sample
from schemas.outbound import (
    NOTIFICATION_LIMIT,
    Access,
    AccessPort,
    Kubectl,
    Notification,
    NotificationType,
    Outcome,
    Reason,
    Result,
    SecretKey,
    Timings,
    result_id,
    same_way_in,
)
from schemas.state import Phase, ReservationState
from tests.contract.payloads import moments

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe = st.none() | text
ports = st.builds(
    AccessPort,
    port=st.integers(1, 65535),
    host_port=st.integers(1, 65535),
    protocol=st.sampled_from(["tcp", "udp"]),
)
secret_keys = st.builds(SecretKey, namespace=text, secret=text, key=text)
kubectls = st.builds(
    Kubectl,
    logs=text,
    exec=text,
    port_forward=st.lists(text, max_size=2).map(tuple),
    kubeconfig=st.none() | secret_keys,
)
accesses = st.builds(
    Access,
    host=text,
    ports=st.lists(ports, max_size=3).map(tuple),
    url=maybe,
    ssh=maybe,
    kubectl=st.none() | kubectls,
)
seconds = st.floats(0, 1e9)
timings = st.builds(Timings, queued=seconds, pulled=seconds, started=seconds, ready=seconds, total=seconds)
reasons = st.builds(Reason, code=text, message=text)
results = st.builds(
    Result,
    id=text,
    outcome=st.sampled_from(Outcome),
    event_id=text,
    event_type=text,
    revision=text,
    instance=text,
    user_id=text,
    username=maybe,
    resource_id=text,
    start=moments,
    end=moments,
    image=maybe,
    image_digest=maybe,
    access=st.none() | accesses,
    timings=st.none() | timings,
    reason=st.none() | reasons,
    occurred_at=moments,
)
states = st.builds(
    ReservationState,
    reservation_id=text,
    phase=st.sampled_from(Phase),
    revision=text,
    booking_version=st.none() | moments,
    start=moments,
    end=moments,
    user=st.builds(User, text, maybe, maybe, maybe),
    resource=st.builds(Resource, text, maybe, maybe, maybe, maybe, maybe, maybe),
    title=maybe,
    parameters=st.dictionaries(text, text, max_size=3),
    runtime=maybe,
    access=st.none() | accesses,
    reason=st.none() | reasons,
    changed_at=moments,
)


def notification(**changes: Any) -> Notification:
    usual: dict[str, Any] = {
        "user_id": "u",
        "message": "ready",
        "type": NotificationType.SUCCESS,
        "event_id": "1841",
        "resource_id": "12",
        "event_type": "EVENT_START",
    }
    return Notification(**(usual | changes))


@given(result=results)
def test_a_result_reads_back_the_same(result: Result) -> None:
    assert Result.model_validate_json(result.to_bytes()) == result


@given(state=states)
def test_a_remembered_state_reads_back_the_same(state: ReservationState) -> None:
    assert ReservationState.model_validate_json(state.to_bytes()) == state


def test_lines_for_kubectl_are_no_other_way_in() -> None:
    access = example_result().access
    assert access is not None
    helped = access.model_copy(update={"kubectl": Kubectl(logs="kubectl logs", exec="kubectl exec")})
    assert same_way_in(access, helped)
    assert not same_way_in(access, access.model_copy(update={"host": "elsewhere"}))
    assert not same_way_in(access, None)
    assert same_way_in(None, None)


def test_access_of_other_runtimes_says_nothing_of_kubectl() -> None:
    assert "kubectl" not in json.loads(example_result().to_bytes())["access"]


def test_a_message_says_nothing_of_what_is_unknown() -> None:
    body = json.loads(notification().to_bytes())
    assert body == {
        "userId": "u",
        "message": "ready",
        "type": "SUCCESS",
        "eventId": "1841",
        "resourceId": "12",
        "eventType": "EVENT_START",
        "metadata": {},
    }


def test_a_result_is_written_as_the_platform_writes() -> None:
    body = json.loads(example_result().to_bytes())
    assert (body["eventId"], body["start"], body["access"]["ports"][0]["hostPort"]) == (
        "1841",
        "2026-03-02T08:00:00Z",
        32771,
    )


def test_the_platforms_own_notification_is_one_of_ours() -> None:
    body = sample("platform_notification")
    assert json.loads(Notification.model_validate_json(body).to_bytes()) == json.loads(body)


def test_a_notification_above_the_platforms_limit_is_refused() -> None:
    assert len(notification(message="x" * NOTIFICATION_LIMIT).message) == 500
    with pytest.raises(ValidationError, match="at most 500 characters"):
        notification(message="x" * (NOTIFICATION_LIMIT + 1))


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_no_host_has_is_refused(port: int) -> None:
    with pytest.raises(ValidationError):
        AccessPort(port=22, host_port=port)


def test_a_message_from_a_newer_writer_is_read() -> None:
    body = json.loads(example_result().to_bytes()) | {"inventedLater": 1}
    assert Result.model_validate(body) == example_result()


def test_a_message_from_before_there_were_timings_is_read() -> None:
    body = json.loads(example_result().to_bytes())
    del body["timings"]
    assert Result.model_validate(body) == example_result().model_copy(update={"timings": None})


def test_timings_are_written_as_plain_seconds() -> None:
    body = json.loads(example_result().to_bytes())["timings"]
    assert body == {"queued": 0.42, "pulled": 6.315, "started": 1.106, "ready": 0.75, "total": 8.591}
    assert round(sum(body.values()) - body["total"], 3) == body["total"]


@pytest.mark.parametrize("value", [-0.001, float("nan"), float("inf")])
def test_a_time_that_no_clock_shows_is_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        Timings(queued=value)


def test_the_same_outcome_of_the_same_revision_has_the_same_id_for_ever() -> None:
    identity = result_id("lab", "1841", "1", Outcome.PROVISIONED)
    assert identity == "e6756d76-ef80-53b7-9b91-abec09163392"
    assert uuid.UUID(identity).version == 5


@given(
    one=st.tuples(text, text, text, st.sampled_from(Outcome)),
    other=st.tuples(text, text, text, st.sampled_from(Outcome)),
)
def test_another_outcome_has_another_id(
    one: tuple[str, str, str, Outcome], other: tuple[str, str, str, Outcome]
) -> None:
    if not any("\x1f" in part for part in (*one, *other)):
        assert (result_id(*one) == result_id(*other)) == (one == other)


def test_every_outcome_has_its_own_id() -> None:
    assert len({result_id("lab", "1841", "1", outcome) for outcome in Outcome}) == len(Outcome)


@given(moment=moments)
def test_a_moment_is_written_in_utc_to_the_microsecond(moment: datetime) -> None:
    written = json.loads(example_result().model_copy(update={"start": moment}).to_bytes())["start"]
    assert written.endswith("Z")
    assert datetime.fromisoformat(written) == moment
