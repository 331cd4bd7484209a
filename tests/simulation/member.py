"""One process of the service: the real consumer, around a handler that does as its plan says."""

import asyncio
from collections.abc import Callable, Hashable, Sequence

from consumer.dispatch import Done, Verdict, Work
from consumer.handling.records import Record
from consumer.transport.connection import TransportError
from consumer.transport.keyed import KeyedConsumer
from consumer.transport.memory import MemoryBroker
from consumer.transport.options import Options
from consumer.transport.outgoing import Outgoing
from consumer.transport.states import StateTopic
from tests.simulation.observer import MARK, Observer
from tests.simulation.plan import DEAD_LETTERS, INBOUND, LARGEST_MESSAGE, OUTBOUND, STATE, Fate, Item


class Member:
    """Lives from its creation until it is stopped or killed.

    `fate_of` says what a run comes to, and `awaits` is called at each await of the handler.
    """

    def __init__(
        self,
        name: str,
        options: Options,
        broker: MemoryBroker,
        observer: Observer,
        *,
        fate_of: Callable[[Item, int], Fate],
        awaits: Callable[["Member"], None],
    ) -> None:
        self.name = name
        self.alive = True
        self.running: dict[Item, None] = {}
        self._limits = options.limits
        self._observer = observer
        self._fate_of = fate_of
        self._awaits = awaits
        self._connection = broker.connection(name)
        self.consumer = KeyedConsumer(
            self._connection,
            [INBOUND],
            self._handle,
            options,
            route=_route,
            memory=StateTopic(self._connection, STATE),
            group_of=lambda work: _group_of(work.item),
        )
        self.task = asyncio.create_task(self._live(), name=name)

    def stop(self) -> None:
        """As SIGTERM does."""
        self._observer.tell(f"{self.name} is told to stop")
        self.consumer.stop()

    def kill(self) -> None:
        """As SIGKILL does."""
        if self.alive:
            self._observer.tell(f"{self.name} is killed")
            self.alive = False
            self._connection.kill()
            self.task.cancel()

    async def _live(self) -> None:
        self._observer.tell(f"{self.name} begins")
        try:
            finished = await self.consumer.run()
            self._observer.tell(f"{self.name} ends, finished={finished}")
        except* TransportError as errors:
            self._observer.tell(f"{self.name} could not start: {errors.exceptions}")
        finally:
            # The process is gone, and with it whatever was still on its way.
            self.alive = False
            self._connection.kill()
            self._observer.tell(f"{self.name} is gone")

    @property
    def waiting_for_nothing(self) -> set[tuple[int, int, Hashable]]:
        """What is ready to be handled and could be: nothing that it needs is exhausted or out of order."""
        figures, limits = self.consumer.liveness(), self._limits
        if figures is None or figures.outages or len(self.running) >= limits.concurrency:
            return set()
        if figures.unacknowledged >= limits.max_unacknowledged:
            return set()
        return {(work.partition, work.offset, work.key) for work in self.consumer.unfinished() if work.stage == "ready"}

    # The handler

    async def _handle(self, work: Work[Item]) -> Verdict[Outgoing]:
        item = work.item
        if not self.alive:
            raise asyncio.CancelledError
        self._observer.expect(item not in self.running, f"{self.name} runs {item} twice at once")
        self._expect_bounds()
        run = self._observer.starts(item, self.name, work.assignment.epoch)
        fate = self._fate_of(item, run)
        self.running[item] = None
        try:
            for wait in fate.takes:
                self._awaits(self)
                await asyncio.sleep(wait)
        except asyncio.CancelledError:
            if self.alive:
                self._observer.tell(f"{self.name}: {item} is cancelled")
                self._observer.cancelled.append(item)
                await asyncio.sleep(fate.cleanup)
            if not (self.alive and fate.swallows_cancellation):
                raise
        finally:
            del self.running[item]
            self._observer.leaves(item)
        if isinstance(fate.trouble, BaseException):
            raise fate.trouble
        if fate.trouble is not None:
            return fate.trouble
        publications = _publications(item, run, fate)
        if self.alive:
            self._observer.ends(item, [_mark(each) for each in publications])
        return Done(tuple(publications), dead_letters=sum(each.topic == DEAD_LETTERS for each in publications))

    def _expect_bounds(self) -> None:
        limits, outstanding = self._limits, len(self.consumer.unfinished())
        most = max((len(items) for items in self._observer.items.values()), default=0)
        self._observer.expect(outstanding < limits.max_records + most, f"{outstanding} items in memory")
        self._observer.expect(len(self.running) < limits.concurrency, f"{len(self.running) + 1} handlers run")


def _route(record: Record) -> Sequence[tuple[str, Item]]:
    keys = (record.value or b"").decode().split()
    return [(key, Item(record.partition, record.offset, part, key)) for part, key in enumerate(keys)]


def _group_of(item: Item) -> str | None:
    return "docker" if item.offset % 2 else None


def _publications(item: Item, run: int, fate: Fate) -> list[Outgoing]:
    topic = DEAD_LETTERS if fate.is_dead_letter else OUTBOUND
    value = b"x" * (LARGEST_MESSAGE + 1 if fate.is_large else 10)
    key = str(item.key).encode()
    found = [
        Outgoing(topic, value, key, ((MARK, f"{item!r}/{run}/{number}".encode()),))
        for number in range(max(fate.publications, fate.is_large, fate.is_dead_letter))
    ]
    if fate.remembers:
        mark = f"{item!r}/{run}/state".encode()
        found.append(Outgoing(STATE, None, key, ((MARK, mark),), item.partition, last=True))
    return found


def _mark(publication: Outgoing) -> str:
    return (dict(publication.headers)[MARK] or b"").decode()
