"""The double of `AIOKafkaConsumer`."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalGenerationError,
    IllegalOperation,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata
from aiokafka.util import commit_structure_validate

from consumer.transport.memory.fetching import EARLIEST, LATEST, Fetcher, FetchOptions, Records
from consumer.transport.memory.line import RETRY_BACKOFF, Line
from consumer.transport.memory.membership import MemberOptions, Membership
from consumer.transport.memory.subscription import Subscription

if TYPE_CHECKING:  # the broker makes connections, which make this
    from consumer.transport.memory.broker import MemoryBroker

_SUPERSEDED = (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)


class MemoryConsumer:
    """Reads topics as a member of a group, or partitions named by hand. Never commits by itself."""

    def __init__(
        self,
        broker: "MemoryBroker",
        line: Line,
        *,
        group_id: str | None = None,
        group_instance_id: str | None = None,
        enable_auto_commit: bool = True,
        auto_offset_reset: str = LATEST,
        partition_assignment_strategy: Sequence[Any] = (RoundRobinPartitionAssignor,),
        session_timeout_ms: int = 10_000,
        heartbeat_interval_ms: int = 3_000,
        rebalance_timeout_ms: int | None = None,
        max_poll_interval_ms: int = 300_000,
        max_poll_records: int | None = None,
        max_partition_fetch_bytes: int = 1024 * 1024,
        request_timeout_ms: int = 40_000,
        fetch_max_wait_ms: int = 500,
    ) -> None:
        if enable_auto_commit and group_id is not None:
            raise NotImplementedError("this double does not commit by itself: enable_auto_commit=False")
        self._broker = broker
        self._line = line
        self._group = broker.group(group_id) if group_id is not None else None
        self._most = max_poll_records
        self._timeout = request_timeout_ms / 1000
        self._subscription = Subscription()
        self._member_options = MemberOptions(
            instance=group_instance_id,
            assignor=partition_assignment_strategy[0],
            session_timeout=session_timeout_ms / 1000,
            heartbeat_interval=heartbeat_interval_ms / 1000,
            rebalance_timeout=(rebalance_timeout_ms or session_timeout_ms) / 1000,
            max_poll_interval=max_poll_interval_ms / 1000,
            request_timeout=self._timeout,
        )
        fetching = FetchOptions(auto_offset_reset, max_partition_fetch_bytes, self._timeout)
        self._fetcher = Fetcher(broker, line, self._subscription, self._group, fetching)
        self._coordinator: Membership | None = None
        self._committing = asyncio.Lock()
        self._metadata: dict[str, set[int]] = {}
        self._polls = 0
        self._polled_at = asyncio.get_running_loop().time()
        self._closed = False

    async def start(self) -> None:
        await self._line.request("connect", lambda: None, self._timeout)
        self._polled_at = asyncio.get_running_loop().time()
        if self._group is not None:
            self._coordinator = Membership(
                self._group,
                self._line,
                self._subscription,
                self._member_options,
                partitions_of=self._partitions_of,
                on_assigned=self._fetcher.restart,
                idle_time=self._idle_time,
            )

    async def stop(self) -> None:
        """Leave the group. The listener is not called."""
        if self._closed:
            return
        self._closed = True
        if self._coordinator is not None:
            await self._coordinator.close()
        await self._fetcher.close()

    # What is read

    def subscribe(self, topics: Iterable[str], *, listener: ConsumerRebalanceListener | None = None) -> None:
        self._subscription.topics = frozenset(topics)
        self._subscription.listener = listener
        self._subscription.made.set()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        self._subscription.assign(partitions)
        self._fetcher.restart()

    def assignment(self) -> frozenset[TopicPartition]:
        return self._subscription.partitions

    async def topics(self) -> set[str]:
        self._metadata = await self._line.request("metadata", self._all_partitions, self._timeout)
        return set(self._metadata)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """None for a topic that this consumer never asked about."""
        return self._metadata.get(topic)

    def _all_partitions(self) -> dict[str, set[int]]:
        return {name: set(range(len(topic.partitions))) for name, topic in self._broker.topics.items()}

    def _partitions_of(self, topic: str) -> set[int] | None:
        return self._all_partitions().get(topic)

    # Reading

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, Records]:
        if self._closed:
            raise ConsumerStoppedError
        self._check()
        self._polls += 1
        try:
            return await self._fetcher.take(partitions, timeout_ms / 1000, max_records or self._most)
        finally:
            self._polls -= 1
            self._polled_at = asyncio.get_running_loop().time()

    def _idle_time(self) -> float:
        return 0.0 if self._polls else asyncio.get_running_loop().time() - self._polled_at

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if not isinstance(offset, int) or offset < 0:
            raise ValueError("Offset must be a positive integer")
        self._fetcher.seek(partition, offset)

    async def seek_to_beginning(self, *partitions: TopicPartition) -> bool:
        return await self._reset(partitions, EARLIEST)

    async def seek_to_end(self, *partitions: TopicPartition) -> bool:
        return await self._reset(partitions, LATEST)

    async def _reset(self, partitions: Sequence[TopicPartition], to: str) -> bool:
        for tp in partitions or self._subscription.partitions:
            self._fetcher.reset(tp, to)
        places = [self._subscription.place(tp) for tp in partitions]
        try:
            async with asyncio.timeout(self._timeout):
                for place in places:
                    await place.found.wait()
        except TimeoutError:
            return False
        self._check()
        return True

    async def position(self, partition: TopicPartition) -> int:
        """Waits until it is known. Raises `IllegalStateError` for a partition that is not assigned."""
        while True:
            place, assigned = self._subscription.place(partition), self._subscription.assigned
            if place.position is not None:
                return place.position
            self._check()
            assert assigned is not None  # noqa: S101 - narrows the type: it has the place
            waits = [asyncio.ensure_future(each.wait()) for each in (place.found, assigned.gone)]
            try:
                await asyncio.wait(waits, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        tps = list(partitions)
        return await self._list_offsets(lambda: {tp: self._broker.log(tp).start for tp in tps})

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        tps = list(partitions)
        return await self._list_offsets(lambda: {tp: self._broker.log(tp).end for tp in tps})

    async def _list_offsets(self, look: Callable[[], dict[TopicPartition, int]]) -> dict[TopicPartition, int]:
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        return await self._line.request("list_offsets", look, self._timeout)
                    except KafkaError as error:
                        if not error.retriable:
                            raise
                        await asyncio.sleep(RETRY_BACKOFF)
        except TimeoutError as error:
            raise KafkaTimeoutError(f"Failed to get offsets in {self._timeout:g} s") from error

    # Committing

    async def commit(self, offsets: Mapping[TopicPartition, Any]) -> None:
        """Tries for as long as the error is a passing one. Raises `CommitFailedError` when the group has moved on.

        One that is cancelled may still take effect.
        """
        if self._group is None:
            raise IllegalOperation("Requires group_id")
        if self._subscription.assigned is None:
            raise IllegalStateError("No partitions assigned")
        valid: dict[TopicPartition, OffsetAndMetadata] = commit_structure_validate(dict(offsets))
        for tp in valid:
            self._subscription.place(tp)
        while True:
            try:
                async with self._committing:
                    await self._line.wait_for(self._line.start(self._commit_once(valid), "commit"))
            except _SUPERSEDED as error:
                raise CommitFailedError("the group has already rebalanced") from error
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(RETRY_BACKOFF)
            else:
                return

    async def _commit_once(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        group, membership = self._group, self._coordinator
        assert group is not None  # noqa: S101 - narrows the type: commit() looked
        assert membership is not None  # noqa: S101 - a group's consumer has one
        member, generation = membership.member_id, membership.generation
        try:
            refused = await self._line.request(
                "commit", lambda: group.commit(member, generation, offsets), self._timeout
            )
        except _SUPERSEDED as error:
            membership.moved_on(error)
            raise
        for reason in refused.values():
            raise reason

    async def committed(self, partition: TopicPartition) -> int | None:
        if (group := self._group) is None:
            raise IllegalOperation("Requires group_id")
        while True:
            try:
                offset = await self._line.request(
                    "fetch_offsets", lambda: group.committed.get(partition), self._timeout
                )
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(RETRY_BACKOFF)
            else:
                return offset.offset if offset is not None else None

    def _check(self) -> None:
        if self._coordinator is not None:
            self._coordinator.check()
