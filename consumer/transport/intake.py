"""Intake: one task that always polls, takes in what there is room for, and follows the group's rebalances.

A partition is polled only while it is open: restored, within budget, and with an outbox that works. aiokafka's
`pause()` would throw fetched records away; instead only the open partitions are named to `getmany`, and while none is
open a partition that does not exist is, because a consumer that stops calling `getmany` is thrown out of its group.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError

from consumer.dispatch import Assignment, Dispatcher
from consumer.handling.publications import Publication
from consumer.handling.records import Record
from consumer.transport.commits import Committer
from consumer.transport.connection import Connection, TransportError
from consumer.transport.outbox import Outbox
from consumer.transport.states import StateTopic
from consumer.transport.stopping import stop_client

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
        self._positions: dict[Assignment, int] = {}
        """The offset that is taken in next, of all partitions that may be polled."""
        self._restoring: set[asyncio.Task[None]] = set()
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
        return all(assignment in self._positions for assignment in self._owned.values())

    def stop(self) -> None:
        """Take in nothing more; `run` then drains, commits, leaves the group and returns."""
        self._stopping.set()

    async def run(self) -> bool:
        """Consume until `stop`. True when nothing was left unfinished."""
        consumer = self._consumer = AIOKafkaConsumer(
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
            await self._leave(consumer)
            raise TransportError(
                f"Joining the group {self._options.group} failed: {type(error).__name__}: {error}. "
                "Check the brokers, the credentials and the group's permissions."
            ) from error
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                consumer.subscribe(self._topics, listener=_Listener(self))
                polling = tasks.create_task(self._poll(), name="poll")
                committing = tasks.create_task(self._commit_regularly(), name="commit")
                await self._stopping.wait()
                log.info("draining", outstanding=self._dispatcher.outstanding, budget=self._options.drain_timeout)
                finished = await self._let_go(list(self._owned))
                for task in (committing, polling, *self._restoring):
                    task.cancel()
            return finished
        finally:
            await self._leave(consumer)

    # Polling

    async def _poll(self) -> None:
        attempt = 0
        while True:
            partitions = self._open_partitions()
            try:
                if partitions:
                    await self._take_in(partitions, at_most=self._options.poll_records)
                else:
                    await self._consumer.getmany(_NOWHERE, timeout_ms=0)
                    await self._dispatcher.wait_for_room(self._options.poll_wait)
                attempt = 0
            except Exception as error:  # noqa: BLE001 - the client raises whatever a record's bytes make it stumble over
                attempt += 1
                log.error("poll_failed", why=f"{type(error).__name__}: {error}", attempt=attempt)
                await self._take_in_singly(partitions)
                await asyncio.sleep(min(2.0, 0.2 * attempt))

    async def _take_in(self, partitions: Sequence[TopicPartition], *, at_most: int) -> bool:
        """Poll these partitions and admit what they have; False when that was nothing.

        When it fails, nothing was admitted and nothing is skipped.
        """
        before = dict(self._owned)
        try:
            batches = await self._consumer.getmany(
                *partitions, timeout_ms=int(self._options.poll_wait * 1000), max_records=at_most
            )
        except Exception:
            # The client forgets what it had found before the error, of whatever partition.
            for tp in partitions:
                if self._owned.get(tp) is before[tp] and before[tp] in self._positions:
                    self._rewind(tp, self._positions[before[tp]])
            raise
        for tp, records in batches.items():
            admitting: Assignment | None = before.get(tp)
            if admitting is None or admitting is not self._owned.get(tp):
                # A rebalance went by while `getmany` waited. These records are of the partition's next assignment,
                # and consumed already as far as the client knows, while we may not have its state yet.
                self._rewind(tp, records[0].offset)
            elif not self._stopping.is_set():
                self._admit(tp, admitting, records)
        return bool(batches)

    async def _take_in_singly(self, partitions: Iterable[TopicPartition]) -> None:
        """Poll one partition after the other, because an error does not say whose it is and the others shall not wait.

        One that fails is polled record by record, up to the one that the error is about.
        """
        most = self._options.poll_records
        for tp in partitions:
            for polls, at_most in ((1, most), (most, 1)):
                try:
                    for _ in range(polls):
                        if not self._is_open(tp) or not await self._take_in([tp], at_most=at_most):
                            break
                    break
                except Exception as error:  # noqa: BLE001 - see above
                    why = f"{type(error).__name__}: {error}"
            else:
                log.error("partition_unreadable", partition=f"{tp.topic}/{tp.partition}", why=why)

    def _open_partitions(self) -> list[TopicPartition]:
        """What may be polled, beginning with another partition each time, because the first ones fill a poll."""
        partitions = [tp for tp in self._owned if self._is_open(tp)]
        if partitions:
            self._turn = (self._turn + 1) % len(partitions)
        return partitions[self._turn :] + partitions[: self._turn]

    def _is_open(self, tp: TopicPartition) -> bool:
        if self._stopping.is_set() or not self._outbox.healthy:
            return False
        assignment = self._owned.get(tp)
        return assignment in self._positions and self._dispatcher.has_room(assignment)

    def _admit(
        self, tp: TopicPartition, assignment: Assignment, records: Iterable[ConsumerRecord[bytes, bytes]]
    ) -> None:
        for consumed in records:
            if not self._dispatcher.has_room(assignment):
                self._rewind(tp, consumed.offset)  # a poll may bring more than there is room for
                return
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
            self._positions[assignment] = record.offset + 1

    def _rewind(self, tp: TopicPartition, offset: int) -> None:
        """Have what lies from `offset` on delivered again, provided that the partition is still ours."""
        with suppress(IllegalStateError):
            self._consumer.seek(tp, offset)

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
        for assignment in leaving:
            self._positions.pop(assignment, None)
        self._states.forget(leaving)
        self._committer.forget(leaving)
        return finished and committed

    async def take_over(self, partitions: Iterable[TopicPartition]) -> None:
        """Own these partitions; they are polled once their state is restored."""
        if self._stopping.is_set():
            return
        taken = []
        for tp in partitions:
            epoch = self._epochs[tp] = self._epochs.get(tp, 0) + 1
            assignment = self._owned[tp] = Assignment(tp.topic, tp.partition, epoch)
            taken.append(assignment)
        log.info("partitions_assigned", partitions=[repr(assignment) for assignment in taken])
        if taken:
            restoring = self._tasks.create_task(self._restore(taken), name="restore")
            self._restoring.add(restoring)
            restoring.add_done_callback(self._restoring.discard)

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Give these partitions up in good order."""
        gone = list(partitions)
        if gone:
            log.info("partitions_revoked", partitions=[f"{tp.topic}/{tp.partition}" for tp in gone])
            await self._let_go(gone)

    async def _restore(self, assignments: list[Assignment]) -> None:
        await self._states.restore(assignments)
        for assignment in assignments:
            position = await self._position(assignment)
            if not assignment.closed:
                self._positions[assignment] = position

    async def _position(self, assignment: Assignment) -> int:
        """Where polling begins. Retries until it is known, or the assignment is closed."""
        while not assignment.closed:
            try:
                return int(await self._consumer.position(TopicPartition(assignment.topic, assignment.partition)))
            except KafkaError as error:
                log.error("position_unknown", partition=repr(assignment), why=f"{type(error).__name__}: {error}")
                await asyncio.sleep(1.0)
        return 0

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        if (why := await stop_client(consumer, self._options.commit_timeout)) is not None:
            log.warning("group_not_left_cleanly", why=why)


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
