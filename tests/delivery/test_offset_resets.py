"""An operator moves the group's offsets, or the log loses its beginning: what is there is handled, nothing hangs.

A real Kafka and Moorage as a process; offsets are moved while it does not run, since Kafka refuses it otherwise.
"""

from pathlib import Path

import pytest

from tests.services import DockerEngine, KafkaBroker
from tests.support.double import Stage
from tests.support.installation import Installation, docker_installation
from tests.support.kafka import Message
from tests.support.operator import Operator
from tests.support.payloads import Booking
from tests.support.service import DoubleService
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

PROVISIONED = ("EVENT_START", "provisioned", None)
RELEASED = ("EVENT_END", "released", None)
ENDED_ALREADY = ("EVENT_START", "skipped", "already_ended")


@pytest.fixture
def operator(kafka: KafkaBroker) -> Operator:
    return Operator(kafka.bootstrap_servers)


def starts(*numbers: int, partition: int = 0) -> list[Message]:
    return [Message(Booking(str(each)).start_event(), partition=partition) for each in numbers]


def ends(*numbers: int, partition: int = 0) -> list[Message]:
    return [Message(Booking(str(each)).end_event(), partition=partition) for each in numbers]


def handle_all(ours: Installation) -> None:
    """One life of a service, which ends when everything is handled and committed."""
    with ours.service(kind=DoubleService) as service:
        ours.settle()
        assert service.stop() == 0


@pytest.mark.docker
def test_offsets_set_back_repeat_what_was_told_and_start_nothing_twice(
    kafka: KafkaBroker, docker_engine: DockerEngine, tmp_path: Path, operator: Operator
) -> None:
    """With real containers: they outlive the service, so that a second environment would show."""
    stay, go = range(1841, 1845), range(1851, 1855)
    with docker_installation(kafka.bootstrap_servers, docker_engine, tmp_path) as (ours, containers):
        with containers.watched() as lives:
            with ours.service("first") as service:
                ours.publish(*starts(*stay, *go))
                ours.settle()
                ours.publish(*ends(*go))  # not before: it would break off what is being provisioned
                ours.settle()
                assert service.stop() == 0
            before, first = containers.all(), ours.look().read()
            operator.reset(ours.names.group, ours.names.inbound, {0: 0})
            with ours.service("second") as service:
                ours.settle()
                assert service.stop() == 0
            after = containers.all()
        seen = ours.look().read()
    assert {each.id for each in after} == {each.id for each in before}
    assert [lives.created(str(each)) for each in (*stay, *go)] == [1] * 8
    for each in map(str, stay):
        assert seen.told(each) == (PROVISIONED, PROVISIONED)
        assert {result["id"] for result in seen.results[each]} == {first.last(each, "provisioned")["id"]}
        assert len(seen.notifications[each]) == 1
    for each in map(str, go):
        assert seen.told(each) == (PROVISIONED, RELEASED, ENDED_ALREADY, RELEASED)
        assert len({result["id"] for result in seen.results[each] if result["outcome"] == "released"}) == 1
    assert seen.arbitrary_ids() == []


def test_offsets_set_forward_skip_what_lies_between_and_nothing_after_it(
    ours: Installation, operator: Operator
) -> None:
    first, skipped, later = (range(begin, begin + 20) for begin in (1800, 1900, 2000))
    ours.publish(*starts(*first))
    handle_all(ours)
    ours.publish(*starts(*skipped), *starts(*later))
    operator.reset(ours.names.group, ours.names.inbound, {0: 40})
    handle_all(ours)
    ours.publish(*ends(*later))
    handle_all(ours)
    seen = ours.look()
    told = {each: seen.told(str(each)) for each in (*first, *skipped, *later)}
    wanted = dict.fromkeys(first, (PROVISIONED,)) | dict.fromkeys(skipped, ())
    assert told == wanted | dict.fromkeys(later, (PROVISIONED, RELEASED))


def test_offsets_set_beyond_the_end_begin_with_what_there_is(ours: Installation, operator: Operator) -> None:
    """Nobody can tell what was meant; handling everything once more is harmless, skipping it would not be."""
    ours.publish(*starts(*range(1800, 1820)))
    handle_all(ours)
    operator.reset(ours.names.group, ours.names.inbound, {0: 1_000_000})
    ours.publish(*starts(1900))
    with ours.service("second", kind=DoubleService) as service:
        ours.wait_for(ours.names.outbound, 41)
        ours.settle()
        assert service.stop() == 0
    seen = ours.look()
    assert {seen.told(str(each)) for each in range(1800, 1820)} == {(PROVISIONED, PROVISIONED)}
    assert seen.told("1900") == (PROVISIONED,)


def test_where_the_log_was_truncated_it_goes_on_with_what_is_left(ours: Installation, operator: Operator) -> None:
    first, gone, left = (range(begin, begin + 20) for begin in (1800, 1900, 2000))
    ours.publish(*starts(*first))
    handle_all(ours)
    ours.publish(*starts(*gone), *starts(*left), *starts(3000, partition=1))
    operator.truncate(ours.names.inbound, {0: 40})
    handle_all(ours)
    ours.publish(*ends(*left))
    handle_all(ours)
    seen = ours.look()
    told = {each: seen.told(str(each)) for each in (*first, *gone, *left, 3000)}
    wanted = dict.fromkeys(first, (PROVISIONED,)) | dict.fromkeys(gone, ()) | {3000: (PROVISIONED,)}
    assert told == wanted | dict.fromkeys(left, (PROVISIONED, RELEASED))


def test_what_vanishes_under_a_running_service_holds_nothing_up(
    ours: Installation, operator: Operator, stage: Stage
) -> None:
    """It has no room for more when the log is truncated to beyond what it took in."""
    held, gone, left = range(1800, 1810), range(1900, 2000), range(2000, 2020)
    stage.hold(*map(str, held))
    with ours.service(kind=DoubleService, MOORAGE_MAX_BUFFERED_RECORDS="10") as service:
        ours.publish(*starts(*held), *starts(*gone), *starts(*left))
        eventually(lambda: stage.arrivals(str(held[0])), what="the first is being provisioned")
        operator.truncate(ours.names.inbound, {0: len(held) + len(gone)})
        stage.let_go(*map(str, held))
        ours.settle()
        assert service.stop() == 0
    seen = ours.look()
    assert {seen.told(str(each)) for each in (*held, *left)} == {(PROVISIONED,)}
    # What the client had fetched already may be handled, but once at most.
    assert {seen.told(str(each)) for each in gone} <= {(PROVISIONED,), ()}
