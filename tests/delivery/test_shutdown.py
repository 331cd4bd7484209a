"""Stopping: what was taken in is finished, what cannot be is left for the next start, and nothing is done twice.

A real Kafka and Moorage as a process; its runtime is the in-memory one, held up where a test says so.
"""

import pytest

from tests.support.double import Stage
from tests.support.installation import Installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.service import DoubleService
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]


def start_of(*reservations: str) -> list[Message]:
    return [Message(Booking(each).start_event(), each.encode()) for each in reservations]


def times_told(ours: Installation) -> dict[str, int]:
    """How many results each reservation has."""
    return {reservation: len(results) for reservation, results in ours.look().results.items()}


def test_a_stopping_service_finishes_what_it_began_and_nothing_is_done_twice(ours: Installation, stage: Stage) -> None:
    begun, later = ["1841", "1842", "1843"], ["1851", "1852"]
    stage.hold(*begun)
    with ours.service("first", kind=DoubleService) as service:
        ours.publish(*start_of(*begun))
        eventually(lambda: all(map(stage.arrivals, begun)), what="all three are being provisioned")
        service.terminate()
        service.wait_for("draining")
        ours.publish(*start_of(*later))
        stage.let_go(*begun)
        assert service.exit_code() == 0
    assert times_told(ours) == dict.fromkeys(begun, 1)
    assert sum(ours.kafka.lag(ours.names.group, ours.names.inbound).values()) == len(later)

    with ours.service("second", kind=DoubleService) as service:
        ours.settle()
        assert service.stop() == 0
    assert times_told(ours) == dict.fromkeys([*begun, *later], 1)
    assert [stage.arrivals(each) for each in begun + later] == [1] * 5


def test_a_service_stopped_amid_many_records_does_none_of_them_twice(ours: Installation, stage: Stage) -> None:
    reservations = [str(number) for number in range(2000, 2500)]
    ours.publish(*start_of(*reservations))
    slow = {"MOORAGE_DOUBLE_SECONDS": "0.02", "MOORAGE_MAX_BUFFERED_RECORDS": "100"}
    later = reservations[250:]
    stage.hold(*later)
    with ours.service("life-0", kind=DoubleService, **slow) as service:
        ours.wait_for(ours.names.state, 10)
        service.terminate()
        service.wait_for("draining")
        stage.let_go(*later)
        assert service.exit_code() == 0
    assert ours.kafka.lag(ours.names.group, ours.names.inbound) != {}
    lives = 0
    while ours.kafka.lag(ours.names.group, ours.names.inbound):
        lives += 1
        handled = ours.kafka.count(ours.names.state)
        with ours.service(f"life-{lives}", kind=DoubleService, **slow) as service:
            ours.wait_for(ours.names.state, min(handled + 200, len(reservations)))
            assert service.stop() == 0
    assert times_told(ours) == dict.fromkeys(reservations, 1)
    assert {stage.arrivals(reservation) for reservation in reservations} == {1}


def test_what_is_stuck_beyond_the_drain_timeout_is_left_for_the_next_start(ours: Installation, stage: Stage) -> None:
    stage.hold("1842")
    with ours.service("first", kind=DoubleService, MOORAGE_DRAIN_TIMEOUT="1") as service:
        ours.publish(*start_of("1841", "1842", "1843"))
        eventually(lambda: stage.arrivals("1842"), what="the stuck one is being provisioned")
        eventually(lambda: set(times_told(ours)) == {"1841", "1843"}, what="the others are ready")
        assert service.stop() == 3
    assert ours.kafka.lag(ours.names.group, ours.names.inbound) != {}

    stage.let_go("1842")
    with ours.service("second", kind=DoubleService) as service:
        ours.settle()
        assert service.stop() == 0
    assert set(times_told(ours)) == {"1841", "1842", "1843"}
    assert ours.look().out_of_order() == []


def test_a_second_signal_ends_it_at_once_and_says_what_was_left(ours: Installation, stage: Stage) -> None:
    stage.hold("1841")
    # Who leaves without a word is missed for a session timeout; a static member is recognised when it comes back.
    static = {"MOORAGE_GROUP_INSTANCE": "one"}
    with ours.service("first", kind=DoubleService, **static) as service:
        ours.publish(*start_of("1841", "1842"))
        eventually(lambda: stage.arrivals("1841"), what="it is being provisioned")
        eventually(lambda: "1842" in times_told(ours), what="the other is ready")
        service.terminate()
        service.wait_for("draining")
        service.terminate()
        assert service.exit_code(seconds=15) == 4
        (left,) = [line for line in service.output().splitlines() if line.startswith("  ")]
    assert left.split()[:2] == ["1841", "running"]
    assert f"{ours.names.inbound}/" in left

    stage.let_go("1841")
    with ours.service("second", kind=DoubleService, **static) as service:
        ours.settle()
        assert service.stop() == 0
    assert set(times_told(ours)) == {"1841", "1842"}
