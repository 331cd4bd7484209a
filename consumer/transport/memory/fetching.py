"""Fetching ahead: a task for each assignment that finds positions and keeps records ready, as aiokafka's does."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from aiokafka.errors import BrokerResponseError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from consumer.transport.memory.groups import Group
from consumer.transport.memory.line import RETRY_BACKOFF, Line
from consumer.transport.memory.log import StoredRecord
from consumer.transport.memory.subscription import Assigned, Subscription

if TYPE_CHECKING:  # the broker makes connections, which make consumers
    from consumer.transport.memory.broker import MemoryBroker

Records = list[ConsumerRecord[bytes, bytes]]

EARLIEST, LATEST = "earliest", "latest"


@dataclass(frozen=True, slots=True)
class FetchOptions:
    auto_offset_reset: str
    max_bytes: int
    request_timeout: float


@dataclass(slots=True)
class _Ready:
    """What was fetched of one partition and not taken yet, or why nothing was."""

    records: list[StoredRecord]
    end: int
    """Where to read on when all were taken."""

    error: KafkaError | None = None


class Fetcher:
    """Fetches what its subscription's assignment has, whether asked for or not."""

    def __init__(
        self, broker: "MemoryBroker", line: Line, subscription: Subscription, group: Group | None, options: FetchOptions
    ) -> None:
        self._broker = broker
        self._line = line
        self._subscription = subscription
        self._group = group
        self._options = options
        self._ready: dict[TopicPartition, _Ready] = {}
        self._waiting: set[asyncio.Future[None]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        broker.appended.add(self._wake)

    def restart(self) -> None:
        """The assignment is another one: nothing that was fetched counts any more."""
        if self._task is not None:
            self._task.cancel()
        self._ready.clear()
        if self._subscription.assigned is not None:
            self._task = self._line.start(self._run(self._subscription.assigned), "fetching")

    async def close(self) -> None:
        self._closed = True
        self._broker.appended.discard(self._wake)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._notify()

    # For the consumer

    async def take(
        self, partitions: Collection[TopicPartition], timeout: float, most: int | None
    ) -> dict[TopicPartition, Records]:
        """What is ready of these partitions (of all when there are none), at the latest after `timeout` seconds.

        While partitions are being reassigned it waits for that, however long it takes.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while True:
            if self._subscription.reassigning:
                await self._subscription.wait_for_assignment()
            taken = self._take_ready(partitions, most)
            if taken or not timeout:
                return taken
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiting.add(waiter)
            try:
                done, _ = await asyncio.wait([waiter], timeout=max(0.0, end - loop.time()))
            finally:
                self._waiting.discard(waiter)
            if not done or self._closed:
                return {}

    def seek(self, tp: TopicPartition, position: int) -> None:
        self._subscription.place(tp).settle(position)
        self._ready.pop(tp, None)
        self._wake.set()

    def reset(self, tp: TopicPartition, to: str) -> None:
        self._subscription.place(tp).lose(to)
        self._ready.pop(tp, None)
        self._wake.set()

    def _take_ready(self, partitions: Collection[TopicPartition], most: int | None) -> dict[TopicPartition, Records]:
        taken: dict[TopicPartition, Records] = {}
        left = most
        for tp in list(self._ready):
            if partitions and tp not in partitions:
                continue
            ready = self._ready[tp]
            if ready.error is not None:
                if not taken:
                    del self._ready[tp]
                    self._wake.set()
                    raise ready.error
                return taken  # the error is for the next call
            count = len(ready.records) if left is None else min(left, len(ready.records))
            records, ready.records = ready.records[:count], ready.records[count:]
            self._subscription.place(tp).settle(ready.records[0].offset if ready.records else ready.end)
            if not ready.records:
                del self._ready[tp]
                self._wake.set()
            if records:
                taken[tp] = [_consumed(tp, record) for record in records]
            if left is not None:
                left -= len(records)
                if left == 0:
                    break
        return taken

    # The task

    async def _run(self, assigned: Assigned) -> None:
        while True:
            self._wake.clear()
            try:
                if assigned.lost:
                    await self._find_positions(assigned)
                elif wanted := self._wanted(assigned):
                    await self._fetch(assigned, wanted)
                else:
                    # A broker keeps a request that finds nothing. This one keeps it until there is something.
                    await self._wake.wait()
            except KafkaError:
                await asyncio.sleep(RETRY_BACKOFF)

    def _wanted(self, assigned: Assigned) -> dict[TopicPartition, int]:
        return {
            tp: place.position
            for tp, place in assigned.places.items()
            if place.position is not None and tp not in self._ready and self._broker.has_news(tp, place.position)
        }

    async def _fetch(self, assigned: Assigned, positions: dict[TopicPartition, int]) -> None:
        fetched = await self._line.request(
            "fetch", lambda: self._broker.fetch(positions, self._options.max_bytes), self._options.request_timeout
        )
        passing: BrokerResponseError | None = None
        for tp, answer in fetched.items():
            place = assigned.places[tp]
            if place.position != positions[tp]:
                continue  # somebody sought meanwhile
            if isinstance(answer, tuple):
                self._ready[tp] = _Ready(*answer)
            elif isinstance(answer, OffsetOutOfRangeError):
                place.lose(self._options.auto_offset_reset)
            elif answer.retriable:
                passing = answer
            else:
                self._ready[tp] = _Ready([], positions[tp], error=answer)
        self._notify()
        if passing is not None:
            raise passing

    async def _find_positions(self, assigned: Assigned) -> None:
        unknown = [tp for tp in assigned.lost if assigned.places[tp].reset is None]
        committed = {}
        if unknown and (group := self._group) is not None:
            committed = await self._line.request("fetch_offsets", lambda: dict(group.committed))
        for tp in unknown:
            place = assigned.places[tp]
            if place.position is None and place.reset is None:
                if tp in committed:
                    place.settle(committed[tp].offset)
                else:
                    place.reset = self._options.auto_offset_reset
        resets = {tp: reset for tp in assigned.lost if (reset := assigned.places[tp].reset) is not None}
        if resets:
            offsets = await self._line.request(
                "list_offsets", lambda: {tp: self._end_of(tp, reset) for tp, reset in resets.items()}
            )
            for tp, offset in offsets.items():
                if assigned.places[tp].reset is not None:
                    assigned.places[tp].settle(offset)

    def _end_of(self, tp: TopicPartition, which: str) -> int:
        log = self._broker.log(tp)
        return log.start if which == EARLIEST else log.end

    def _notify(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


def _consumed(tp: TopicPartition, record: StoredRecord) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(
        topic=tp.topic,
        partition=tp.partition,
        offset=record.offset,
        timestamp=record.timestamp_ms,
        timestamp_type=0,
        key=record.key,
        value=record.value,
        checksum=None,
        serialized_key_size=len(record.key) if record.key is not None else -1,
        serialized_value_size=len(record.value) if record.value is not None else -1,
        headers=record.headers,
    )
