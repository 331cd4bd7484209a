"""What a consumer reads, and where it is: shared by its membership, its fetching and itself."""

import asyncio
import copy
from collections.abc import Iterable

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError


class Place:
    """Where reading a partition goes on, which may have to be found out."""

    __slots__ = ("found", "position", "reset")

    def __init__(self) -> None:
        self.position: int | None = None
        self.reset: str | None = None
        """Which end of the partition to begin at; None to begin where the group is."""

        self.found = asyncio.Event()

    def settle(self, position: int) -> None:
        self.position, self.reset = position, None
        self.found.set()

    def lose(self, reset: str) -> None:
        self.position, self.reset = None, reset
        self.found.clear()


class Assigned:
    """The partitions of one generation, or those that were named by hand."""

    def __init__(self, partitions: Iterable[TopicPartition]) -> None:
        self.places = {tp: Place() for tp in partitions}
        self.gone = asyncio.Event()

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        return frozenset(self.places)

    @property
    def lost(self) -> list[TopicPartition]:
        """Those without a position."""
        return [tp for tp, place in self.places.items() if place.position is None]


class Subscription:
    """What was asked for and what was got."""

    def __init__(self) -> None:
        self.topics: frozenset[str] = frozenset()
        self.listener: ConsumerRebalanceListener | None = None
        self.assigned: Assigned | None = None
        self.reassigning = True
        self.made = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        return self.assigned.partitions if self.assigned is not None else frozenset()

    def place(self, tp: TopicPartition) -> Place:
        """Raises `IllegalStateError` for a partition that is not assigned."""
        if self.assigned is None or tp not in self.assigned.places:
            raise IllegalStateError(f"Partition {tp} is not assigned")
        return self.assigned.places[tp]

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        if self.assigned is not None:
            self.assigned.gone.set()
        self.assigned = Assigned(partitions)
        self.reassigning = False
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait_for_assignment(self) -> None:
        """Raises the `KafkaError` that keeps the consumer out of its group."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def fail_waiters(self, error: KafkaError) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(copy.copy(error))
        self._waiters.clear()
