"""What is restored from the state topic, what is kept of it in memory, and what is never touched."""

import asyncio
import json
from datetime import timedelta

import pytest
from aiokafka import TopicPartition
from structlog.testing import capture_logs

from consumer.handling.sealed import Sealed
from consumer.transport import restoring
from consumer.transport.memory import MemoryBroker
from consumer.transport.reader import read_reservations
from consumer.transport.states import StateTopic
from schemas.state import Phase, ReservationState
from schemas.state_index import STATE_HEADER, index_of
from tests.transport.states import STATE, TEN, owned, restored, state, store

NEWER = b'{"version":2,"reservationId":"1841","phase":"DREAMING"}'


@pytest.fixture
async def broker() -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topic(STATE, 4)
    return broker


# Restoring


@pytest.mark.parametrize("indexed", [True, False])
async def test_everything_is_there_with_and_without_an_index(broker: MemoryBroker, indexed: bool) -> None:
    values = [state(str(number), title=f"number {number}") for number in range(5)]
    for number, value in enumerate(values):
        store(broker, value, partition=number % 2, indexed=indexed)
    mine = owned(0, 1)
    states = await restored(broker, mine)
    assert [states.get(mine[0], value.reservation_id) for value in values] == values
    assert dict(states.indexes(0)) | dict(states.indexes(1)) == {each.reservation_id: index_of(each) for each in values}
    assert states.get(mine[0], "5") is None
    assert states.partitions == [0, 1]


async def test_the_last_record_of_a_reservation_counts(broker: MemoryBroker) -> None:
    for title in ("first", "second", "third"):
        store(broker, state(title=title), indexed=title != "second")
    store(broker, state("1842"))
    broker.append(STATE, None, b"1842")
    broker.append(STATE, None, b"1843")
    (mine,) = owned(0)
    states = await restored(broker, [mine])
    assert [key for key, _ in states.indexes(0)] == ["1841"]
    found = states.get(mine, "1841")
    assert found is not None
    assert found.title == "third"


async def test_gaps_that_compaction_left_are_no_obstacle(broker: MemoryBroker) -> None:
    for number in range(10):
        store(broker, state(str(number % 3)))
    log = broker.log(TopicPartition(STATE, 0))
    log.remove([0, 1, 2, 3, 4, 5, 6])
    log.skip(3)
    (mine,) = owned(0)
    states = await restored(broker, [mine])
    assert sorted(key for key, _ in states.indexes(0)) == ["0", "1", "2"]


async def test_a_header_that_nobody_of_us_wrote_is_not_believed(broker: MemoryBroker) -> None:
    value = state()
    broker.append(STATE, value.to_bytes(), b"1841", ((STATE_HEADER, b"[1,whatever"), ("other", None)))
    broker.append(STATE, value.to_bytes(), b"1842", ((STATE_HEADER, None),))
    (mine,) = owned(0)
    states = await restored(broker, [mine])
    assert states.index("1841") == states.index("1842") == index_of(value)
    assert states.get(mine, "1841") == value


async def test_a_broker_that_goes_away_meanwhile_is_waited_for(broker: MemoryBroker) -> None:
    for number in range(5_000):
        store(broker, state(str(number)))
    (mine,) = owned(0)
    states = StateTopic(broker.connection(), STATE)
    broker.go_down()
    with capture_logs() as logs:
        restoring_it = asyncio.create_task(states.restore([mine]))
        await asyncio.sleep(5)
        assert states.partitions == []
        broker.come_up()
        await restoring_it
    assert len(list(states.indexes(0))) == 5_000
    assert {"state_not_restored", "state_restored"} <= {each["event"] for each in logs}


async def test_a_restart_in_the_middle_begins_anew(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "_AT_ONCE", 10)
    for number in range(5_000):
        store(broker, state(str(number)))
    (mine,) = owned(0)
    first = StateTopic(broker.connection(), STATE)
    cut_off = asyncio.create_task(first.restore([mine]))
    for _ in range(100):
        await asyncio.sleep(0)
    cut_off.cancel()
    await asyncio.wait({cut_off})
    assert first.partitions == []
    states = await restored(broker, owned(0))
    assert len(list(states.indexes(0))) == 5_000


async def test_nobody_restores_what_was_lost_meanwhile(broker: MemoryBroker) -> None:
    store(broker, state())
    broker.go_down()
    (mine,) = owned(0)
    states = StateTopic(broker.connection(), STATE)
    restoring_it = asyncio.create_task(states.restore([mine]))
    await asyncio.sleep(1)
    mine.closed = True
    await asyncio.wait_for(restoring_it, 60)
    assert states.partitions == []


async def test_it_tells_how_far_it_is(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "_REPORTED_EVERY", 0.0)
    monkeypatch.setattr(restoring, "_AT_ONCE", 100)
    for number in range(250):
        store(broker, state(str(number)))
    broker.log(TopicPartition(STATE, 0)).truncate(50)
    with capture_logs() as logs:
        await restored(broker, owned(0, 1))
    told = [(each["done"], each["total"]) for each in logs if each["event"] == "state_restoring"]
    assert told == [(100, 200), (200, 200)]


# What this release cannot read


@pytest.mark.parametrize("headers", [((STATE_HEADER, b"[2,17]"),), ()])
async def test_a_state_of_a_newer_release_is_sealed(
    broker: MemoryBroker, headers: tuple[tuple[str, bytes], ...]
) -> None:
    broker.append(STATE, NEWER, b"1841", headers)
    (mine,) = owned(0)
    states = await restored(broker, [mine])
    with pytest.raises(Sealed, match=r"version 2; partition 0, offset 0") as sealed:
        states.get(mine, "1841")
    assert sealed.value.code == "state_from_newer_version"
    with pytest.raises(Sealed):
        states.put(mine, state())
    assert not states.drop(mine, "1841")
    assert states.index("1841") is None
    assert list(states.indexes(0)) == []
    with pytest.raises(Sealed):
        states.get(mine, "1841")


@pytest.mark.parametrize("value", [b"{", b"[]", b"null", b"{}", b'{"version":"2"}', b'{"version":true}', b"\xff"])
async def test_what_is_broken_is_sealed_with_a_warning(broker: MemoryBroker, value: bytes) -> None:
    store(broker, state("1842"))
    broker.append(STATE, value, b"1841")
    (mine,) = owned(0)
    with capture_logs() as logs:
        states = await restored(broker, [mine])
    (warning,) = [each for each in logs if each["log_level"] == "warning"]
    assert (warning["event"], warning["partition"], warning["offset"]) == ("state_unreadable", 0, 1)
    with pytest.raises(Sealed) as sealed:
        states.get(mine, "1841")
    assert sealed.value.code == "state_unreadable"
    assert states.get(mine, "1842") == state("1842")


async def test_what_turns_out_to_be_broken_is_sealed_then(broker: MemoryBroker) -> None:
    store(broker, state())
    good = broker.topics[STATE].partitions[0].records[0]
    broker.append(STATE, b"{", b"1841", good.headers)
    broker.append(STATE, NEWER, b"1842", good.headers)
    (mine,) = owned(0)
    states = await restored(broker, [mine])
    for key, code in (("1841", "state_unreadable"), ("1842", "state_from_newer_version")):
        for _ in range(2):
            with pytest.raises(Sealed) as sealed:
                states.get(mine, key)
            assert sealed.value.code == code
        assert states.index(key) is None


async def test_an_older_state_elsewhere_does_not_unseal_it(broker: MemoryBroker) -> None:
    broker.append(STATE, NEWER, b"1841", partition=0)
    store(broker, state(changed_at=TEN + timedelta(days=9)), partition=1)
    mine = owned(0, 1)
    states = await restored(broker, mine)
    for assignment in mine:
        with pytest.raises(Sealed):
            states.get(assignment, "1841")
        assert not states.drop(assignment, "1841")


async def test_what_was_too_large_is_as_if_it_had_never_been(broker: MemoryBroker) -> None:
    store(broker, state())
    headers = broker.topics[STATE].partitions[0].records[0].headers
    broker.append(STATE, json.dumps({"tooLarge": True, "bytes": 1, "sha256": "ab"}).encode(), b"1841", headers)
    (mine,) = owned(0)
    states = await restored(broker, [mine])
    assert states.get(mine, "1841") is None
    states.put(mine, state())
    assert states.get(mine, "1841") == state()


# In memory


async def test_what_is_put_is_found_with_its_index(broker: MemoryBroker) -> None:
    (mine,) = owned(0)
    states = await restored(broker, [mine])
    running = state(phase=Phase.ACTIVE, environment="r-1")
    states.put(mine, running)
    assert (states.get(mine, "1841"), states.index("1841")) == (running, index_of(running))
    mine.closed = True
    states.put(mine, state())
    assert states.get(mine, "1841") == running


async def test_of_states_in_several_partitions_the_newest_is_found_and_goes_last(broker: MemoryBroker) -> None:
    newer = state(changed_at=TEN + timedelta(seconds=1), title="newer")
    store(broker, newer, partition=0)
    store(broker, state(), partition=2)
    zero, two = mine = owned(0, 2)
    states = await restored(broker, mine)
    assert states.get(two, "1841") == newer
    assert not states.drop(zero, "1841")
    assert states.drop(two, "1841")
    assert not states.drop(two, "1841")
    assert states.drop(zero, "1841")
    assert states.get(zero, "1841") is None


async def test_walking_over_states_bears_that_they_come_and_go(broker: MemoryBroker) -> None:
    for number in range(3):
        store(broker, state(str(number)))
    (mine,) = owned(0)
    states = await restored(broker, [mine])
    seen = []
    for reservation_id, _ in states.indexes(0):
        seen.append(reservation_id)
        states.drop(mine, "1")
        states.put(mine, state("3"))
    assert seen == ["0", "2"]


async def test_a_partition_is_kept_until_its_last_topic_has_gone(broker: MemoryBroker) -> None:
    store(broker, state())
    (one,), (other,) = owned(0), owned(0, topic="more-reservations")
    states = await restored(broker, [one, other])
    assert {each.topic for each in states.owners(0)} == {"reservations", "more-reservations"}
    states.forget([one])
    assert states.get(other, "1841") == state()
    assert states.owners(0) == [other]
    states.forget([other])
    assert states.partitions == []
    assert states.owners(0) == []


async def test_operators_see_all_that_can_be_read(broker: MemoryBroker) -> None:
    newer = state(changed_at=TEN + timedelta(seconds=1))
    store(broker, state(), partition=0)
    store(broker, newer, partition=3)
    store(broker, state("1842"), indexed=False)
    broker.append(STATE, NEWER, b"1843")
    found: dict[str, ReservationState] = await read_reservations(broker.connection(), STATE)
    assert found == {"1841": newer, "1842": state("1842")}
