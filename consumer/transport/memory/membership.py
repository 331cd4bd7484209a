"""A consumer's membership in its group: a background task that joins, and another that sends heartbeats.

It follows aiokafka's `GroupCoordinator` step by step, because what hurts is in the steps: callbacks are awaited between
a rebalance's beginning and joining again, what they raise is swallowed, and none is made when the consumer stops.
"""

import asyncio
import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from consumer.transport.memory.groups import NO_GENERATION, Group, Joined
from consumer.transport.memory.line import RETRY_BACKOFF, Line
from consumer.transport.memory.subscription import Subscription

log = structlog.get_logger("moorage.memory")


@dataclass(frozen=True, slots=True)
class MemberOptions:
    """Times are seconds."""

    instance: str | None
    assignor: Any
    session_timeout: float
    heartbeat_interval: float
    rebalance_timeout: float
    max_poll_interval: float
    request_timeout: float


class Membership:
    """Keeps a subscription's partitions as the group assigns them, from creation until `close`."""

    def __init__(
        self,
        group: Group,
        line: Line,
        subscription: Subscription,
        options: MemberOptions,
        *,
        partitions_of: Callable[[str], "set[int] | None"],
        on_assigned: Callable[[], None],
        idle_time: Callable[[], float],
    ) -> None:
        self._group = group
        self._line = line
        self._subscription = subscription
        self._options = options
        self._partitions_of = partitions_of
        self._on_assigned = on_assigned
        self._idle_time = idle_time
        self.member_id = ""
        self.generation = NO_GENERATION
        self._prepared = False
        self._rejoin = asyncio.Event()
        self._closing = asyncio.Event()
        self._error: KafkaError | None = None
        self._error_taken = asyncio.Event()
        self._heartbeats: asyncio.Task[None] | None = None
        self._task = line.start(self._run(), "membership")

    def check(self) -> None:
        """Raise what keeps this consumer out of its group; it tries again afterwards."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()
        self._error_taken.set()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def moved_on(self, error: KafkaError) -> None:
        """A commit was refused because the group has moved on."""
        if isinstance(error, RebalanceInProgressError):
            self._rejoin.set()
        else:
            self._reset()

    async def close(self) -> None:
        """Leave the group; callbacks that are running finish first, and none is made."""
        self._closing.set()
        # Whoever gives up waiting for `stop` cancels it. What a killed process was doing nobody waits for.
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        await self._stop_heartbeats()
        await self._leave()

    # The coordination task

    async def _run(self) -> None:
        try:
            await self._until_closing(self._subscription.made)
            while not self._closing.is_set():
                if self._subscription.assigned is None or self._rejoin.is_set():
                    try:
                        await self._join()
                    except KafkaError as error:
                        await self._tell(error)
                    continue
                await self._until_closing(self._rejoin)
        except Exception as error:
            log.exception("coordination_failed")
            failure = KafkaError(f"Unexpected error during coordination {error!r}")
            self._subscription.fail_waiters(failure)
            raise failure from error

    async def _until_closing(self, event: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(each.wait()) for each in (event, self._closing)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _tell(self, error: KafkaError) -> None:
        """Leave an error to whoever polls next, and wait until it was taken."""
        self._error = copy.copy(error)
        self._error_taken.clear()
        self._subscription.fail_waiters(error)
        await self._until_closing(self._error_taken)

    async def _join(self) -> None:
        await self._find_coordinator()
        if self._closing.is_set():
            return
        if not self._prepared:
            await self._let_go()
            self._prepared = True
        await self._stop_heartbeats()
        if self._subscription.assigned is not None and self._idle_time() >= self._options.max_poll_interval:
            await asyncio.sleep(RETRY_BACKOFF)
            return
        partitions = await self._join_and_sync()
        if partitions is None:
            await asyncio.sleep(RETRY_BACKOFF)
            return
        self._subscription.assign(partitions)
        self._on_assigned()
        await self._call_back("on_partitions_assigned", self._subscription.partitions)
        self._prepared = False
        self._heartbeats = self._line.start(self._beat(), "heartbeats")

    async def _find_coordinator(self) -> None:
        while not self._closing.is_set():
            try:
                await self._line.request("metadata", lambda: None, self._options.request_timeout)
            except KafkaError:
                await asyncio.sleep(RETRY_BACKOFF)
            else:
                return

    async def _let_go(self) -> None:
        self._subscription.reassigning = True
        await self._call_back("on_partitions_revoked", self._subscription.partitions)

    async def _call_back(self, name: str, partitions: frozenset[TopicPartition]) -> None:
        if self._subscription.listener is None:
            return
        try:
            result = getattr(self._subscription.listener, name)(set(partitions))
            if asyncio.iscoroutine(result):
                await result
        except Exception:
            log.exception("listener_failed", callback=name)

    async def _join_and_sync(self) -> tuple[TopicPartition, ...] | None:
        """The partitions of the next generation; None when it did not come about, or without this member."""
        group, options, topics = self._group, self._options, self._subscription.topics
        try:
            joined: Joined = await self._line.request(
                "join",
                lambda: group.join(
                    self.member_id,
                    self._line.client,
                    topics,
                    options.session_timeout,
                    options.rebalance_timeout,
                    options.instance,
                ),
                options.request_timeout,
            )
            self.member_id, self.generation = joined.member, joined.generation
            assignment = self._assignment(joined.members) if joined.leader == joined.member else None
            self._rejoin.clear()
            partitions: tuple[TopicPartition, ...] = await self._line.request(
                "sync", lambda: group.sync(joined.member, joined.generation, assignment), options.request_timeout
            )
        except GroupAuthorizationFailedError:
            raise
        except (UnknownMemberIdError, IllegalGenerationError):
            self._reset()
            return None
        except KafkaError:
            self._rejoin.set()
            return None
        return partitions

    def _assignment(self, members: Mapping[str, Iterable[str]]) -> dict[str, list[TopicPartition]]:
        metadata = {
            member: ConsumerProtocolMemberMetadata(0, sorted(topics), b"") for member, topics in members.items()
        }
        assigned = self._options.assignor.assign(_Cluster(self._partitions_of), metadata)
        return {member: each.partitions() for member, each in assigned.items()}

    # Heartbeats

    async def _beat(self) -> None:
        wait = self._options.heartbeat_interval
        while self.member_id:
            await asyncio.sleep(wait)
            wait = self._options.heartbeat_interval if await self._heartbeat() else RETRY_BACKOFF
            idle = self._idle_time()
            if idle >= self._options.max_poll_interval:
                await self._leave()
            else:
                wait = min(wait, self._options.max_poll_interval - idle)

    async def _heartbeat(self) -> bool:
        member, generation = self.member_id, self.generation
        try:
            await self._line.request("heartbeat", lambda: self._group.heartbeat(member, generation))
        except RebalanceInProgressError:
            # Heartbeats go on: they keep the membership while partitions are let go of.
            self._rejoin.set()
        except (UnknownMemberIdError, IllegalGenerationError):
            self._reset()
            return False
        except KafkaError:
            return False
        return True

    async def _stop_heartbeats(self) -> None:
        if self._heartbeats is not None:
            self._heartbeats.cancel()
            await asyncio.wait([self._heartbeats])
            self._heartbeats = None

    async def _leave(self) -> None:
        if self.generation == NO_GENERATION or self._options.instance is not None:
            return
        member = self.member_id
        try:
            await self._line.request("leave", lambda: self._group.leave(member), self._options.request_timeout)
        except KafkaError as error:
            log.info("leaving_failed", why=repr(error))
        self._reset()

    def _reset(self) -> None:
        """The group does not know this member any more."""
        self.member_id, self.generation = "", NO_GENERATION
        self._rejoin.set()


class _Cluster:
    """As much of aiokafka's `ClusterMetadata` as assignors ask for."""

    def __init__(self, partitions_for_topic: Callable[[str], "set[int] | None"]) -> None:
        self.partitions_for_topic = partitions_for_topic
