"""Intake: one task that always polls, takes in what there is room for, and follows the group's rebalances.

A partition is polled only while it is open: restored, within budget, and with an outbox that works. aiokafka's
`pause()` would throw fetched records away; instead only the open partitions are named to `getmany`, and while none is
open a partition that does not exist is, because a consumer that stops calling `getmany` is thrown out of its group.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from consumer.dispatch import Assignment, Dispatcher
from consumer.dispatch.offset_map import LIMIT
from consumer.handling.records import Record
from consumer.transport.commits import Committer
from consumer.transport.connection import Connection, TransportError
from consumer.transport.membership import is_lost, leave
from consumer.transport.options import Options
from consumer.transport.outbox import Outbox
from consumer.transport.partitions import Listener, Memory, Partitions

log = structlog.get_logger("moorage.intake")

T = TypeVar("T")

_NOWHERE = TopicPartition("", 0)

_AWAKE_EVERY = 1.0

_HOPELESS = 3
"""Failed polls in a row after which a membership that has died is given up."""


class Intake(Generic[T]):
    """Feeds a dispatcher from Kafka and commits how far it has come."""

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str],
        options: Options,
        *,
        dispatcher: Dispatcher[T, Any],
        route: Callable[[Record], Sequence[tuple[Hashable, T]]],
        memory: Memory,
        outbox: Outbox,
    ) -> None:
        self._connection = connection
        self._topics = list(topics)
        self._options = options
        self._dispatcher = dispatcher
        self._route = route
        self._memory = memory
        self._outbox = outbox
        self._turn = 0
        self._stopping = asyncio.Event()
        self._end = asyncio.Event()
        """Of one membership: because everything stops, or because the group has to be joined anew."""

        self._awake_at = float("inf")
        """Loop time at which this process was last seen to run."""

        self._suspect_until = 0.0
        self.partitions: Partitions | None = None
        """What is owned; None before the group was joined."""

        self.committer: Committer | None = None
        self.polled_at: float | None = None
        """Loop time at which the client was last asked for records."""

    def stop(self) -> None:
        """Take in nothing more; `run` then drains, commits, leaves the group and returns."""
        self._stopping.set()
        self._end.set()

    @property
    def suspended(self) -> bool:
        """Whether this process has just been standing still for so long that others may own its partitions by now.

        Nothing may be published until the group has told. It is asked by then, and what it took is cut off.
        """
        now = asyncio.get_running_loop().time()
        return now - self._awake_at > self._options.session_timeout or now < self._suspect_until

    async def run(self) -> bool:
        """Consume until `stop`. True when nothing that was begun was cut off.

        Raises `TransportError` when the group cannot be joined.
        """
        while (finished := await self._as_member()) is None:
            log.warning("membership_lost", consequence="the group is joined anew")
        return finished

    async def stay_awake(self) -> None:
        """Notice when this process stood still, until cancelled.

        Polling would not tell: it waits as long as the group takes to settle.
        """
        loop = asyncio.get_running_loop()
        self._awake_at = loop.time()
        while True:
            await asyncio.sleep(_AWAKE_EVERY)
            now = loop.time()
            if now - self._awake_at > self._options.session_timeout:
                log.warning("stood_still", seconds=round(now - self._awake_at, 1), consequence="partitions may be lost")
                self._suspect_until = now + self._options.session_timeout / 5  # two heartbeats
            self._awake_at = now

    async def _as_member(self) -> bool | None:
        """Consume as one member of the group, until `stop` or until that has become hopeless (None)."""
        self._end.clear()
        if self._stopping.is_set():
            self._end.set()
        consumer = self._consumer = self._new_consumer()
        try:
            await consumer.start()
        except KafkaError as error:
            await self._leave(consumer)
            raise TransportError(
                f"Joining the group {self._options.group} failed: {type(error).__name__}: {error}. "
                "Check the brokers, the credentials and the group's permissions."
            ) from error
        try:
            async with asyncio.TaskGroup() as tasks:
                committer = self.committer = Committer(consumer, timeout=self._options.commit_timeout)
                partitions = self.partitions = self._own(consumer, committer, tasks)
                consumer.subscribe(self._topics, listener=Listener(partitions))
                background = [
                    tasks.create_task(self._poll(partitions), name="poll"),
                    tasks.create_task(self._commit_regularly(partitions, committer), name="commit"),
                ]
                await self._end.wait()
                log.info("draining", outstanding=self._dispatcher.outstanding, budget=self._options.drain_timeout)
                finished = await partitions.leave_all()
                for task in background:
                    task.cancel()
            return finished if self._stopping.is_set() else None
        finally:
            await self._leave(consumer)

    def _new_consumer(self) -> AIOKafkaConsumer:
        return self._connection.consumer(
            group_id=self._options.group,
            group_instance_id=self._options.group_instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=int(self._options.session_timeout * 1000),
            heartbeat_interval_ms=int(self._options.session_timeout * 1000 / 10),
            rebalance_timeout_ms=int(self._options.rebalance_timeout * 1000),
            fetch_max_wait_ms=int(self._options.fetch_wait * 1000),
            max_poll_records=self._options.poll_records,
        )

    def _own(self, consumer: AIOKafkaConsumer, committer: Committer, tasks: asyncio.TaskGroup) -> Partitions:
        return Partitions(
            self._connection,
            consumer,
            self._options,
            dispatcher=self._dispatcher,
            committer=committer,
            memory=self._memory,
            start=tasks.create_task,
        )

    # Polling

    async def _poll(self, owned: Partitions) -> None:
        attempt = 0
        while True:
            self.polled_at = asyncio.get_running_loop().time()
            partitions = self._open_ones(owned)
            try:
                if partitions:
                    await self._take_in(owned, partitions, at_most=self._options.poll_records)
                else:
                    await self._consumer.getmany(_NOWHERE, timeout_ms=0)
                    await self._dispatcher.wait_for_room(self._options.poll_wait)
                attempt = 0
            except Exception as error:  # noqa: BLE001 - the client raises whatever a record's bytes make it stumble over
                attempt += 1
                if attempt >= _HOPELESS and is_lost(self._consumer):
                    self._end.set()
                    return
                log.error("poll_failed", why=f"{type(error).__name__}: {error}", attempt=attempt)
                await self._take_in_singly(owned, partitions)
                await asyncio.sleep(min(2.0, 0.2 * attempt))

    async def _take_in(self, owned: Partitions, partitions: Sequence[TopicPartition], *, at_most: int) -> bool:
        """Poll these partitions and admit what they have; False when that was nothing.

        When it fails, nothing was admitted and nothing is skipped.
        """
        before = dict(owned)
        try:
            batches = await self._consumer.getmany(
                *partitions, timeout_ms=int(self._options.poll_wait * 1000), max_records=at_most
            )
        except Exception:
            # The client forgets what it had found before the error, of whatever partition.
            for tp in partitions:
                if owned.get(tp) is before[tp] and before[tp] in owned.positions:
                    owned.rewind(tp, owned.positions[before[tp]])
            raise
        for tp, records in batches.items():
            admitting: Assignment | None = before.get(tp)
            if admitting is None or admitting is not owned.get(tp):
                # A rebalance went by while `getmany` waited. These records are of the partition's next assignment,
                # and consumed already as far as the client knows, while we may not have its state yet.
                owned.rewind(tp, records[0].offset)
            elif not self._stopping.is_set():
                self._admit(owned, tp, admitting, records)
        return bool(batches)

    async def _take_in_singly(self, owned: Partitions, partitions: Iterable[TopicPartition]) -> None:
        """Poll one partition after the other, because an error does not say whose it is and the others shall not wait.

        One that fails is polled record by record, up to the one that the error is about.
        """
        most = self._options.poll_records
        for tp in partitions:
            for polls, at_most in ((1, most), (most, 1)):
                try:
                    for _ in range(polls):
                        if not self._is_open(owned, tp) or not await self._take_in(owned, [tp], at_most=at_most):
                            break
                    break
                except Exception as error:  # noqa: BLE001 - see above
                    why = f"{type(error).__name__}: {error}"
            else:
                log.error("partition_unreadable", partition=f"{tp.topic}/{tp.partition}", why=why)

    def _open_ones(self, owned: Partitions, *, turn: int = 1) -> list[TopicPartition]:
        """What may be polled, beginning with another partition at each turn, because the first ones fill a poll."""
        partitions = [tp for tp, _ in owned if self._is_open(owned, tp)]
        if partitions:
            self._turn = (self._turn + turn) % len(partitions)
        return partitions[self._turn :] + partitions[: self._turn]

    def _is_open(self, owned: Partitions, tp: TopicPartition) -> bool:
        if self._stopping.is_set() or not self._outbox.healthy:
            return False
        assignment = owned.get(tp)
        return (
            assignment is not None
            and (position := owned.positions.get(assignment)) is not None
            and self._has_room(assignment, position)
        )

    @property
    def closed(self) -> bool:
        """Whether nothing may be taken in although partitions are owned."""
        owned = self.partitions
        return owned is not None and bool(owned.assignments) and not self._open_ones(owned, turn=0)

    def _has_room(self, assignment: Assignment, offset: int) -> bool:
        return self._dispatcher.has_room(assignment) and assignment.takes(offset)

    def _admit(
        self,
        owned: Partitions,
        tp: TopicPartition,
        assignment: Assignment,
        records: Iterable[ConsumerRecord[bytes, bytes]],
    ) -> None:
        if self.committer is not None and assignment.watermark.largest_map > LIMIT // 2:
            self.committer.measure(assignment)
        for consumed in records:
            if not self._has_room(assignment, consumed.offset):
                owned.rewind(tp, consumed.offset)  # a poll may bring more than there is room for
                return
            owned.moved(assignment, consumed.offset + 1)
            if assignment.watermark.is_done(consumed.offset):
                assignment.watermark.reach(consumed.offset)
                continue
            record = Record(
                consumed.topic,
                consumed.partition,
                consumed.offset,
                consumed.timestamp,
                consumed.key,
                consumed.value,
                tuple(consumed.headers),
            )
            self._dispatcher.admit(assignment, record.offset, self._route(record), record.size)

    async def _commit_regularly(self, owned: Partitions, committer: Committer) -> None:
        while True:
            await asyncio.sleep(self._options.commit_interval)
            await committer.commit(owned.assignments)

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        options = self._options
        why = await leave(
            consumer, options.group, is_static=options.group_instance is not None, within=options.commit_timeout
        )
        if why is not None:
            log.warning("group_not_left_cleanly", why=why)
