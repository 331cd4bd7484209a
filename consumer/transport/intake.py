"""Intake: one task that always polls, takes in what there is room for, and follows the group's rebalances.

A partition is polled only while it is open: restored, within budget, and with an outbox that works. aiokafka's
`pause()` would throw fetched records away; instead only the open partitions are named to `getmany`, and while none is
open a partition that does not exist is, because a consumer that stops calling `getmany` is thrown out of its group.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from consumer.dispatch import Assignment, Dispatcher
from consumer.handling.publications import Publication
from consumer.handling.records import Record
from consumer.transport.commits import Committer
from consumer.transport.connection import Connection, TransportError
from consumer.transport.outbox import Outbox
from consumer.transport.states import StateTopic

log = structlog.get_logger("moorage.intake")

T = TypeVar("T")

_NOWHERE = TopicPartition("", 0)


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """How the group is joined and how it is left. Times are seconds."""

    group: str = "moorage"
    group_instance: str | None = None
    """Static membership: a restart within the session timeout keeps the partitions without a rebalance."""

    poll_records: int = 1000
    poll_wait: float = 0.2
    fetch_wait: float = 0.1
    commit_interval: float = 1.0
    commit_timeout: float = 5.0
    session_timeout: float = 30.0
    drain_timeout: float = 25.0
    """How long running work may take to finish when partitions are revoked or the service stops."""

    @property
    def rebalance_timeout(self) -> float:
        """The group waits this long for members to let go: longer than draining and committing take."""
        return max(self.session_timeout, self.drain_timeout + self.commit_timeout + 10.0)


class Intake(Generic[T]):
    """Feeds a dispatcher from Kafka and commits how far it has come."""

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str],
        options: IntakeOptions,
        *,
        dispatcher: Dispatcher[T, Publication],
        route: Callable[[Record], Sequence[tuple[Hashable, T]]],
        states: StateTopic,
        outbox: Outbox,
    ) -> None:
        self._topics = list(topics)
        self._options = options
        self._dispatcher = dispatcher
        self._route = route
        self._states = states
        self._outbox = outbox
        self._connection = connection
        self._owned: dict[TopicPartition, Assignment] = {}
        self._restored: set[Assignment] = set()
        self._epochs: dict[TopicPartition, int] = {}
        self._turn = 0
        self._stopping = asyncio.Event()

    @property
    def owned(self) -> dict[tuple[str, int], Assignment]:
        """The partitions this member owns."""
        return {(tp.topic, tp.partition): assignment for tp, assignment in self._owned.items()}

    @property
    def restored(self) -> bool:
        """Whether all owned partitions have their state and may be polled."""
        return all(assignment in self._restored for assignment in self._owned.values())

    def stop(self) -> None:
        """Take in nothing more; `run` then drains, commits, leaves the group and returns."""
        self._stopping.set()

    async def run(self) -> bool:
        """Consume until `stop`. True when nothing was left unfinished."""
        consumer = AIOKafkaConsumer(
            **self._connection.arguments(),
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
        self._committer = Committer(consumer, timeout=self._options.commit_timeout)
        try:
            await consumer.start()
        except KafkaError as error:
            await consumer.stop()
            raise TransportError(
                f"Joining the group {self._options.group} failed: {type(error).__name__}: {error}. "
                "Check the brokers, the credentials and the group's permissions."
            ) from error
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                consumer.subscribe(self._topics, listener=_Listener(self))
                polling = tasks.create_task(self._poll(consumer), name="poll")
                committing = tasks.create_task(self._commit_regularly(), name="commit")
                await self._stopping.wait()
                log.info("draining", outstanding=self._dispatcher.outstanding, budget=self._options.drain_timeout)
                finished = await self._let_go(list(self._owned))
                committing.cancel()
                polling.cancel()
            return finished
        finally:
            await self._leave(consumer)

    # Polling

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        attempt = 0
        while True:
            partitions = self._open_partitions()
            try:
                if not partitions:
                    await consumer.getmany(_NOWHERE, timeout_ms=0)
                    await self._dispatcher.wait_for_room(self._options.poll_wait)
                    continue
                before = dict(self._owned)
                batches = await consumer.getmany(
                    *partitions,
                    timeout_ms=int(self._options.poll_wait * 1000),
                    max_records=self._options.poll_records,
                )
            except KafkaError as error:
                attempt += 1
                log.error("poll_failed", why=f"{type(error).__name__}: {error}", attempt=attempt)
                await asyncio.sleep(min(5.0, 0.2 * attempt))
                continue
            attempt = 0
            for tp, records in batches.items():
                assignment: Assignment | None = self._owned.get(tp)
                if assignment is None or assignment is not before.get(tp) or self._stopping.is_set():
                    continue  # no longer ours to handle: whoever owns the partition next gets these again
                self._admit(assignment, records)

    def _open_partitions(self) -> list[TopicPartition]:
        """What may be polled, beginning with another partition each time, because the first ones fill a poll."""
        if self._stopping.is_set() or not self._outbox.healthy:
            return []
        partitions = [
            tp
            for tp, assignment in self._owned.items()
            if assignment in self._restored and self._dispatcher.has_room(assignment)
        ]
        if partitions:
            self._turn = (self._turn + 1) % len(partitions)
        return partitions[self._turn :] + partitions[: self._turn]

    def _admit(self, assignment: Assignment, records: Iterable[ConsumerRecord[bytes, bytes]]) -> None:
        for consumed in records:
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

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._options.commit_interval)
            await self._committer.commit(list(self._owned.values()))

    # Rebalances

    async def _let_go(self, partitions: Iterable[TopicPartition]) -> bool:
        """Finish and commit the work of these partitions, then forget them. True when nothing was given up."""
        leaving = [self._owned[tp] for tp in partitions if tp in self._owned]
        finished = await self._dispatcher.drain(leaving, self._options.drain_timeout)
        committed = await self._committer.commit(leaving)
        for tp in partitions:
            self._owned.pop(tp, None)
        self._restored.difference_update(leaving)
        self._states.forget(leaving)
        self._committer.forget(leaving)
        return finished and committed

    async def take_over(self, partitions: Iterable[TopicPartition]) -> None:
        """Own these partitions; they are polled once their state is restored."""
        taken = []
        for tp in partitions:
            epoch = self._epochs[tp] = self._epochs.get(tp, 0) + 1
            assignment = self._owned[tp] = Assignment(tp.topic, tp.partition, epoch)
            taken.append(assignment)
        log.info("partitions_assigned", partitions=[repr(assignment) for assignment in taken])
        if taken:
            self._tasks.create_task(self._restore(taken), name="restore")

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Give these partitions up in good order."""
        gone = list(partitions)
        if gone:
            log.info("partitions_revoked", partitions=[f"{tp.topic}/{tp.partition}" for tp in gone])
            await self._let_go(gone)

    async def _restore(self, assignments: list[Assignment]) -> None:
        await self._states.restore(assignments)
        self._restored.update(assignment for assignment in assignments if not assignment.closed)

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        try:
            async with asyncio.timeout(self._options.commit_timeout):
                await consumer.stop()
        except (KafkaError, TimeoutError) as error:
            log.warning("group_not_left_cleanly", why=str(error) or "timeout")


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """aiokafka swallows what a listener raises, so what goes wrong here is at least logged."""

    def __init__(self, intake: Intake[Any]) -> None:
        self._intake = intake

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        try:
            await self._intake.revoke(revoked)
        except Exception:
            log.exception("revocation_failed")
            raise

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._intake.take_over(assigned)
