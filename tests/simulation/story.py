"""A story: members come and go, things go wrong, then they calm down and everything has to be settled."""

import asyncio
import random
from contextlib import suppress

import structlog
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from consumer.dispatch import dispatcher as dispatcher_module
from consumer.transport import outbox as outbox_module
from consumer.transport.memory import MemoryBroker, Operation
from tests.simulation.chaos import Chaos
from tests.simulation.member import Member
from tests.simulation.observer import Observer, WatchedOffsets
from tests.simulation.plan import (
    DEAD_LETTERS,
    GROUP,
    INBOUND,
    LARGEST_MESSAGE,
    OUTBOUND,
    STATE,
    Event,
    Fate,
    Item,
    Plan,
    Trouble,
)

HORIZON = 3_600.0
"""Virtual seconds of calm after which whatever is not done never will be."""

MOST_MEMBERS = 4

_A_MOMENT = 1e-3
_A_WHILE = 20.0
"""Seconds in which a successor would have begun whatever there is to do."""

_TO_END = 120.0
"""Seconds in which a member that was told to stop, or killed, has to be gone."""


class Story:
    """`kill_at` kills the first member at the await of this number, of its handler's and its requests'."""

    def __init__(self, plan: Plan, *, kill_at: int | None = None) -> None:
        self.plan = plan
        self.broker = MemoryBroker(Chaos(plan, self._look))
        self.observer = Observer(self.broker, _now, maps_are_read=plan.requests_succeed, one_at_a_time=plan.is_gentle)
        self.members: list[Member] = []
        self.awaits = 0
        """How often the first member awaited something."""

        self._kill_at = kill_at
        self._events = plan.rng("events")
        self._records = plan.rng("records")
        self._begun = 0
        for module in (dispatcher_module._CRASH_BACKOFF, outbox_module._KEEP_TRYING):
            module.rng.seed(plan.seed)
        random.seed(plan.seed)  # of partitions for records without key

    @property
    def problems(self) -> list[str]:
        return self.observer.problems

    @property
    def chaos(self) -> Chaos:
        assert isinstance(self.broker.faults, Chaos)
        return self.broker.faults

    async def tell(self) -> None:
        """From the first record to the end."""
        with structlog.testing.capture_logs(processors=[self._overhear]):
            try:
                await self._tell()
            finally:
                await self.end()

    async def _tell(self) -> None:
        self.set_up()
        for _ in range(self.plan.members):
            self.join()
        producing = asyncio.create_task(self._produce_all())
        happening = asyncio.create_task(self._happen())
        watching = asyncio.create_task(self._watch())
        await asyncio.sleep(self.plan.duration)
        happening.cancel()
        await asyncio.wait([producing, happening])
        for task in (producing, happening):
            if not task.cancelled():
                task.result()
        await self.settle()
        watching.cancel()
        await self.stop_all()
        await self._look_again()
        self._expect_nothing_for_nothing()

    # What the world does

    def set_up(self) -> None:
        for name in (INBOUND, OUTBOUND, DEAD_LETTERS, STATE):
            self.broker.create_topic(name, self.plan.partitions, **{"max.message.bytes": str(LARGEST_MESSAGE)})
        self.broker.group(GROUP).committed = WatchedOffsets(self.observer.committed)

    def produce(self) -> None:
        draw = self._records
        keys = [f"k{int(self.plan.keys * draw.random() ** 2)}" for _ in range(draw.choice([1, 1, 1, 1, 2, 3]))]
        partition = hash_of(keys[0]) % self.plan.partitions
        log = self.broker.log(TopicPartition(INBOUND, partition))
        if draw.random() < 0.1:
            log.skip(draw.choice([1, 50]))
        items = [Item(partition, log.end, part, key) for part, key in enumerate(keys)]
        self.observer.produced(partition, log.end, items)
        value = " ".join(keys).encode()
        for _ in range(2 if draw.random() < 0.1 else 1):  # platforms send again what they sent already
            if log.end != items[0].offset:
                items = [Item(partition, log.end, part, key) for part, key in enumerate(keys)]
                self.observer.produced(partition, log.end, items)
            self.broker.append(INBOUND, value, keys[0].encode(), partition=partition)

    def join(self) -> Member:
        self._begun += 1
        member = Member(
            f"m{self._begun}",
            self.plan.options,
            self.broker,
            self.observer,
            fate_of=lambda item, run: Fate(self.plan, item, run, self.chaos.trouble.handler),
            awaits=self._await,
        )
        self.members.append(member)
        return member

    @property
    def alive(self) -> list[Member]:
        return [member for member in self.members if member.alive]

    async def stop(self, member: Member) -> None:
        member.stop()
        await self._until_gone([member])

    async def stop_all(self) -> None:
        await asyncio.gather(*(self.stop(member) for member in self.alive))

    async def reset_offsets(self) -> None:
        """As an operator does: nobody may be a member meanwhile."""
        await self.stop_all()
        group, draw = self.broker.group(GROUP), self._events
        await asyncio.sleep(self.plan.options.session_timeout + 1)  # whoever did not leave is thrown out
        for partition in range(self.plan.partitions):
            tp = TopicPartition(INBOUND, partition)
            offset = draw.randint(0, self.broker.log(tp).end)
            old = group.committed.get(tp, OffsetAndMetadata(0, ""))
            self.observer.tell(f"an operator moves {partition} from {old.offset} to {offset}")
            self.observer.skipped_below(partition, offset)
            group.committed[tp] = OffsetAndMetadata(offset, draw.choice(["", old.metadata]))
        self.join()

    async def end(self) -> None:
        """Leave nobody behind."""
        for member in self.members:
            member.kill()
        await self._until_gone(self.members)

    async def _produce_all(self) -> None:
        for _ in range(self.plan.records):
            self.produce()
            await asyncio.sleep(self.plan.pace * 2 * self._records.random())

    async def _happen(self) -> None:
        while self.plan.events:
            await asyncio.sleep(self._events.expovariate(1 / self.plan.event_every))
            await self.happen(self._events.choice(self.plan.events))

    async def happen(self, event: Event) -> None:
        alive, draw = self.alive, self._events
        match event:
            case "join" if len(alive) < MOST_MEMBERS:
                self.join()
            case "stop" if alive:
                await self.stop(draw.choice(alive))
            case "kill" if alive:
                draw.choice(alive).kill()
                if draw.random() < 0.5:
                    self.join()
            case "outage":
                self.observer.tell("Kafka is down")
                self.broker.go_down()
                await asyncio.sleep(draw.choice([0.1, 3.0, 60.0]) * draw.random())
                self.observer.tell("Kafka is back")
                self.broker.come_up()
            case "isolation" if alive:
                name = draw.choice(alive).name
                self.observer.tell(f"{name} is isolated")
                self.chaos.isolated.add(name)
                asyncio.get_running_loop().call_later(draw.choice([1.0, 20.0, 100.0]), self._reconnect, name)
            case "reset":
                await self.reset_offsets()
            case "overload":
                for _ in range(20):
                    self.produce()

    def _reconnect(self, name: str) -> None:
        self.observer.tell(f"{name} is not isolated any more")
        self.chaos.isolated.discard(name)

    async def settle(self) -> None:
        """Calm down, and wait until all is done and committed."""
        self.observer.tell("calm from here on")
        self.chaos.trouble = Trouble()
        if not self.broker.up:
            self.broker.come_up()
        end = _now() + HORIZON
        while _now() < end and not self.problems:
            if not self.alive:
                self.join()
            self.observer.look()
            if not self.observer.unfinished and self._is_committed():
                return
            await asyncio.sleep(1.0)
        self.observer.expect(False, f"never done: {self.observer.unfinished}, {self._left()}")

    async def _look_again(self) -> None:
        """After everybody stopped in good order there is nothing left for whoever comes next."""
        before = sum(self.observer.runs.values())
        successor = self.join()
        await asyncio.sleep(_A_WHILE)
        again = sum(self.observer.runs.values()) - before
        self.observer.expect(again == 0, f"{again} runs after a clean stop")
        await self.stop(successor)

    def _expect_nothing_for_nothing(self) -> None:
        plan, seen = self.plan, self.observer
        if not plan.is_gentle:
            return
        seen.expect(not seen.repeats, f"repeated for nothing: {seen.repeats}")
        seen.expect(not seen.cancelled, f"cancelled for nothing: {seen.cancelled}")
        if plan.handlers_succeed:
            seen.expect(not seen.repeated_parts, f"repeated for nothing: {seen.repeated_parts}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.3)
            waiting = [(member, member.waiting_for_nothing) for member in self.alive]
            await asyncio.sleep(_A_MOMENT)  # something may have happened in the same moment as the look
            for member, before in waiting:
                still = before & member.waiting_for_nothing if member.alive else set()
                self.observer.expect(not still, f"{still} wait in {member.name} while slots are free")

    # Looking on

    def _await(self, member: Member) -> None:
        if member is self.members[0]:
            self.awaits += 1
            if self.awaits == self._kill_at:
                member.kill()

    def _look(self, client: str, operation: Operation, applied: bool) -> None:
        member = next((each for each in self.members if each.name == client), None)
        if member is None or not member.alive:
            return
        if applied and operation == "fetch_offsets":
            self.observer.positions_read(client)
        if applied and operation == "produce":
            self.observer.look()
        self._await(member)

    def _is_committed(self) -> bool:
        committed = self.broker.group(GROUP).committed
        logs = self.broker.topics[INBOUND].partitions
        return all(
            not log.records
            or (
                (offset := committed.get(TopicPartition(INBOUND, number))) is not None
                and offset.offset > log.records[-1].offset
            )
            for number, log in enumerate(logs)
        )

    def _left(self) -> list[object]:
        return [(each.name, each.consumer.unfinished()) for each in self.alive]

    async def _until_gone(self, members: list[Member]) -> None:
        tasks = [member.task for member in members]
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=_TO_END)
        self.observer.expect(not pending, f"{[task.get_name() for task in pending]} do not end")
        for task in tasks:
            if task.done() and not task.cancelled():
                with suppress(asyncio.CancelledError):
                    self.observer.expect(task.exception() is None, f"{task.get_name()} died of {task.exception()!r}")

    def _overhear(self, logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        self.observer.tell(f"    {event}")
        self.observer.expect("exc_info" not in event, f"logged: {event}")
        return event


def hash_of(key: str) -> int:
    """The same in every run, unlike `hash`."""
    return sum(key.encode())


def _now() -> float:
    return asyncio.get_running_loop().time()
