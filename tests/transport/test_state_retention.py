"""What is long over is forgotten, in memory and in the topic; nothing else ever is.

A whole consumer on a broker in memory, whose handler is told what to remember by the records themselves. Its virtual
time begins at ten o'clock.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError, TopicAuthorizationFailedError

from consumer.dispatch import Assignment, Done, Verdict, Work
from consumer.handling.guard import Guard
from consumer.handling.handler import Handler
from consumer.handling.publications import Channel, Publication
from consumer.handling.records import Item, Record, Review, unwritten
from consumer.handling.retention import Expired, Retention, RetentionOptions
from consumer.transport.connection import Topics
from consumer.transport.keyed import KeyedConsumer
from consumer.transport.memory import Faults, MemoryBroker, Operation
from consumer.transport.options import Options
from consumer.transport.outgoing import Outgoing
from consumer.transport.states import StateTopic
from schemas.events import EventKind, ReservationEvent, Resource, User
from schemas.state import Phase, ReservationState
from schemas.state_index import STATE_HEADER, index_bytes
from tests.transport.states import INBOUND, STATE, TEN, state, store

RETENTION = 600.0
TOPICS = Topics(inbound=(INBOUND,), state=STATE, outbound="outbound", dead_letter="dead-letters")


def now() -> datetime:
    return TEN + timedelta(seconds=asyncio.get_running_loop().time())


class Remembering:
    """Stands for the handler: makes of each event a state, after a second of work."""

    def __init__(self, states: StateTopic) -> None:
        self._states = states
        self.seen: list[tuple[str, bool]] = []
        """Which reservation, and whether it was known."""

    def group_of(self, work: Work[Item]) -> str | None:
        return None

    async def handle(self, work: Work[Item]) -> Verdict[Publication]:
        reservation_id = str(work.key)
        known = self._states.get(work.assignment, reservation_id)
        self.seen.append((reservation_id, known is not None))
        await asyncio.sleep(1)
        new = state(reservation_id, title="handled", changed_at=now())
        self._states.put(work.assignment, new)
        header = ((STATE_HEADER, index_bytes(new)),)
        partition = work.assignment.partition
        return Done((Publication(Channel.STATE, reservation_id.encode(), new.to_bytes(), header, partition),))


class Member:
    """One process that consumes `topics` and forgets after ten minutes."""

    def __init__(self, broker: MemoryBroker, topics: Topics = TOPICS, *, all_topics: tuple[str, ...] = ()) -> None:
        connection = broker.connection()
        self.states = StateTopic(connection, STATE)
        self.handler = Remembering(self.states)
        self.retention = Retention(self.states, RetentionOptions(RETENTION, all_topics or topics.inbound), now=now)
        self._topics = topics
        guard = self.guard = Guard(cast("Handler", self.handler), self.states, self.retention, instance="lab", now=now)
        self.consumer: KeyedConsumer[Item] = KeyedConsumer(
            connection,
            topics.inbound,
            self._handle,
            Options(),
            route=_route,
            memory=self.states,
            group_of=guard.group_of,
        )

    async def _handle(self, work: Work[Item]) -> Verdict[Outgoing]:
        verdict = await self.guard.handle(work)
        assert isinstance(verdict, Done)
        return Done(tuple(map(self._topics.outgoing, verdict.publications)), verdict.dead_letters)

    def ask(self, assignment: Assignment, reservation_id: str) -> bool:
        item = Expired(unwritten(assignment, reservation_id), Review(reservation_id))
        return self.consumer.admit(assignment, reservation_id, item)


def _route(record: Record) -> list[tuple[str, Item]]:
    reservation_id = (record.key or b"").decode()
    event = ReservationEvent(EventKind.START, reservation_id, TEN, TEN, TEN, User("17"), Resource("12"))
    return [(reservation_id, Item(record, event))]


@asynccontextmanager
async def running(member: Member) -> AsyncIterator[Member]:
    async with asyncio.TaskGroup() as tasks:
        forgetting = tasks.create_task(member.retention.run(member.ask))
        consuming = tasks.create_task(member.consumer.run())
        await asyncio.sleep(5)
        yield member
        member.consumer.stop()
        await consuming
        forgetting.cancel()


@pytest.fixture
async def broker() -> MemoryBroker:
    broker = MemoryBroker()
    for topic in (INBOUND, STATE, "outbound", "dead-letters"):
        broker.create_topic(topic, 2)
    return broker


def left(broker: MemoryBroker) -> dict[str, bytes]:
    """What compaction would leave of the state topic."""
    found: dict[str, bytes | None] = {}
    for _, record in broker.topics[STATE].records:
        found[(record.key or b"").decode()] = record.value
    return {key: value for key, value in found.items() if value is not None}


async def test_some_time_after_it_was_over_it_is_forgotten(broker: MemoryBroker) -> None:
    store(broker, state("ended"), partition=1)
    store(broker, state("released later", changed_at=TEN + timedelta(minutes=10)))
    store(broker, state("ends later", end=TEN + timedelta(minutes=20)), indexed=False)
    async with running(Member(broker)) as member:
        await asyncio.sleep(RETENTION - 10)
        assert set(left(broker)) == {"ended", "released later", "ends later"}
        await asyncio.sleep(100)
        assert set(left(broker)) == {"released later", "ends later"}
        await asyncio.sleep(600)
        assert set(left(broker)) == {"ends later"}
        assert [key for key, _ in member.states.indexes(0)] == ["ends later"]
        await asyncio.sleep(600)
        assert left(broker) == {}
    tombstones = [(partition, each.key) for partition, each in broker.topics[STATE].records if each.value is None]
    assert tombstones == [(0, b"released later"), (0, b"ends later"), (1, b"ended")]


async def test_what_never_ran_goes_as_well_and_what_may_still_run_stays(broker: MemoryBroker) -> None:
    for key, changes in {
        "pending": {"phase": Phase.PENDING},
        "failed": {"phase": Phase.FAILED},
        "active": {"phase": Phase.ACTIVE, "environment": "r-1"},
        "without environment": {"phase": Phase.ACTIVE},
        "never removed": {"environment": "r-2"},
        "to come": {"phase": Phase.PENDING, "end": TEN + timedelta(days=900)},
    }.items():
        store(broker, state(key, **cast("dict[str, Any]", changes)))
    broker.append(STATE, b'{"version":2}', b"newer")
    broker.append(STATE, b"{", b"broken")
    async with running(Member(broker)):
        await asyncio.sleep(3 * RETENTION)
    kept = {"active", "without environment", "never removed", "to come", "newer", "broken"}
    assert set(left(broker)) == kept


async def test_many_go_without_taking_the_room_of_records(broker: MemoryBroker) -> None:
    for number in range(3_000):
        store(broker, state(str(number), changed_at=TEN - timedelta(days=8), end=TEN - timedelta(days=8)))
    most = 0

    class Watched(Member):
        def ask(self, assignment: Assignment, reservation_id: str) -> bool:
            nonlocal most
            taken = super().ask(assignment, reservation_id)
            most = max(most, len(self.consumer.unfinished()))
            return taken

    async with running(Watched(broker)) as member:
        while left(broker):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(1)
    assert most == 200
    assert member.handler.seen == []


class Trouble(Faults):
    """Publishing takes a while, and often fails or seems to."""

    def __init__(self) -> None:
        self._draw = random.Random(7)  # noqa: S311 - trouble, not secrets

    async def at(self, client: str, operation: Operation, *, applied: bool) -> None:
        if operation == "produce":
            await asyncio.sleep(self._draw.random() / 2)
            if self._draw.random() < 0.3:
                raise self._draw.choice([KafkaConnectionError, RequestTimedOutError, TopicAuthorizationFailedError])


async def test_an_event_at_whatever_moment_is_never_undone(broker: MemoryBroker) -> None:
    """Reservations are forgotten ten minutes after ten, and their events come just before, meanwhile and just after."""
    broker.faults = Trouble()
    names = [str(number) for number in range(80)]
    for name in names:
        store(broker, state(name))
    async with running(Member(broker)) as member:
        await asyncio.sleep(RETENTION - 9)
        for name in names:
            await asyncio.sleep(0.1)
            broker.append(INBOUND, b"", name.encode())
        await asyncio.sleep(120)
        assert {ReservationState.model_validate_json(each).title for each in left(broker).values()} == {"handled"}
        assert set(left(broker)) == {key for key, _ in member.states.indexes(0)} == set(names)
        assert {known for _, known in member.handler.seen} == {True, False}


async def test_one_that_is_being_handled_stays(broker: MemoryBroker) -> None:
    store(broker, state("1841", changed_at=TEN - timedelta(seconds=RETENTION)))
    broker.append(INBOUND, b"", b"1841")
    async with running(Member(broker)):
        await asyncio.sleep(60)
    assert ReservationState.model_validate_json(left(broker)["1841"]).title == "handled"
    assert None not in [each.value for _, each in broker.topics[STATE].records]


async def test_nothing_goes_from_a_partition_that_somebody_else_writes_to_as_well(broker: MemoryBroker) -> None:
    broker.create_topic("more", 2)
    store(broker, state())
    async with running(Member(broker, all_topics=(INBOUND, "more"))):
        await asyncio.sleep(2 * RETENTION)
        assert set(left(broker)) == {"1841"}


async def test_topics_that_are_all_owned_here_share_their_states(broker: MemoryBroker) -> None:
    broker.create_topic("more", 2)
    store(broker, state())
    async with running(Member(broker, Topics((INBOUND, "more"), state=STATE))):
        await asyncio.sleep(2 * RETENTION)
    assert left(broker) == {}


async def test_nothing_goes_from_a_partition_that_was_left(broker: MemoryBroker) -> None:
    store(broker, state())
    member = Member(broker)
    async with running(member):
        await asyncio.sleep(RETENTION / 2)
    walking = asyncio.create_task(member.retention.run(member.ask))
    await asyncio.sleep(RETENTION)
    walking.cancel()
    assert set(left(broker)) == {"1841"}


async def test_a_question_that_was_given_up_with_its_partition_is_asked_again(broker: MemoryBroker) -> None:
    store(broker, state(changed_at=TEN - timedelta(days=1), end=TEN - timedelta(days=1)))
    states = StateTopic(broker.connection(), STATE)
    retention = Retention(states, RetentionOptions(RETENTION, (INBOUND,)), now=now)
    asked: list[int] = []

    def ask(assignment: Assignment, reservation_id: str) -> bool:
        asked.append(assignment.epoch)
        return True

    walking = asyncio.create_task(retention.run(ask))
    for epoch in (1, 2):
        mine = Assignment(INBOUND, 0, epoch)
        await states.restore([mine])
        await asyncio.sleep(RETENTION)
        mine.closed = True
        states.forget([mine])
    walking.cancel()
    assert asked == [1, 2]


async def test_an_event_of_a_sealed_reservation_is_a_dead_letter_and_nothing_else(broker: MemoryBroker) -> None:
    broker.append(STATE, b'{"version":2}', b"newer")
    broker.append(STATE, b"{", b"broken")
    store(broker, state("1841", changed_at=TEN + timedelta(days=99)))
    async with running(Member(broker)) as member:
        for key in (b"newer", b"1841", b"broken"):
            broker.append(INBOUND, b"as it came", key)
        await asyncio.sleep(60)
        review = Item(unwritten(Assignment(INBOUND, 0), "newer"), Review("newer", look=True))
        (owner,) = member.states.owners(0)
        assert member.consumer.admit(owner, "newer", review)
        await asyncio.sleep(60)
        assert member.handler.seen == [("1841", True)]
    letters = [record for _, record in broker.topics["dead-letters"].records]
    codes = {each.key: dict(each.headers)["moorage-dlt-error-code"] for each in letters}
    assert codes == {b"newer": b"state_from_newer_version", b"broken": b"state_unreadable"}
    assert {each.value for each in letters} == {b"as it came"}
    assert left(broker)["newer"] == b'{"version":2}'
    assert left(broker)["broken"] == b"{"
