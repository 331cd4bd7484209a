"""The index of a state tells its essence without decoding it, and nothing wrong of what somebody else wrote."""

import json
from datetime import timedelta

import pytest

from schemas.outbound import Reason
from schemas.state import Phase
from schemas.state_index import StateIndex, index_bytes, index_of, is_current, parse_index
from tests.transport.states import TEN, state

RUNNING = state(
    phase=Phase.ACTIVE,
    environment="r-1",
    template="gpu",
    booking_version=TEN,
    start_seen=True,
    changed_at=TEN - timedelta(microseconds=1),
    cpu_millis=500,
    memory_bytes=2**28,
    runtime="docker@gpu-1",
    placed="docker@gpu-2",
)
FAILED = state(phase=Phase.FAILED, reason=Reason(code="no_template", message="No template fits."))


def test_it_has_what_timers_quotas_and_retention_need() -> None:
    ten = TEN.timestamp()
    assert index_of(RUNNING) == StateIndex(
        phase=Phase.ACTIVE,
        start=ten - 7200,
        end=ten,
        changed_at=ten - 1e-6,
        resource_id="12",
        user_id="17",
        template="gpu",
        environment=True,
        versioned=True,
        start_seen=True,
        reason=None,
        cpu_millis=500,
        memory_bytes=2**28,
        runtime="docker@gpu-1",
        placed="docker@gpu-2",
    )
    assert index_of(FAILED)[6:] == (None, False, False, False, "no_template", 0, 0, None, None)


@pytest.mark.parametrize("value", [RUNNING, FAILED, state(user=RUNNING.user.__class__('";,]é'))])
def test_it_survives_the_way_through_the_topic(value: object) -> None:
    header = index_bytes(value)  # type: ignore[arg-type]
    assert is_current(header)
    assert parse_index(header) == index_of(value)  # type: ignore[arg-type]


def test_what_a_later_release_adds_is_passed_over() -> None:
    values = json.loads(index_bytes(RUNNING))
    assert parse_index(json.dumps([*values, "more", {}]).encode()) == index_of(RUNNING)


@pytest.mark.parametrize("fields", [("runtime", "placed"), ("cpu_millis", "memory_bytes", "runtime", "placed")])
def test_what_earlier_releases_wrote_lacks_what_came_later(fields: tuple[str, ...]) -> None:
    values = json.loads(index_bytes(RUNNING))
    parsed = parse_index(json.dumps(values[: -len(fields)]).encode())
    assert parsed == index_of(RUNNING.model_copy(update=dict.fromkeys(fields)))


def test_another_version_is_none_of_ours() -> None:
    assert not is_current(b'[2,"ACTIVE"]')
    assert not is_current(b'[11,"ACTIVE"]')
    assert not is_current(b"")


@pytest.mark.parametrize(
    "header",
    [
        b"[1,",
        b"[1,2]",
        b"[1,\xff]",
        b'[1,"ACTIVE",1,2]',
        b'[1,"ASLEEP",1,2,3,"a","b",null,true,true,true,null]',
        b'[1,"ACTIVE",1,NaN,3,"a","b",null,true,true,true,null]',
        b'[1,"ACTIVE",1,2,3,4,"b",null,true,true,true,null]',
        b'[1,"ACTIVE",1,2,3,"a","b",null,true,true,true,null,500]',
        b'[1,"ACTIVE",1,2,3,"a","b",null,true,true,true,null,-1,0]',
    ],
)
def test_what_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the parser says of it
        parse_index(header)
