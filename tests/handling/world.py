"""The service without Kafka: all that outlives a process, and one process of it that lives, is killed and lives again.

It is nine o'clock when the loop's (virtual) time is 0. Events are told with `tests.reservations.bookings`.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consumer.catalog.identity import reservation_key
from consumer.catalog.templates import Catalog
from consumer.dispatch import (
    Assignment,
    BreakerPolicy,
    Dispatcher,
    Limits,
    OffsetMap,
    RetryPolicy,
    Verdict,
    Work,
)
from consumer.handling.agenda import Agenda
from consumer.handling.clock import SteadyClock
from consumer.handling.guard import Guard
from consumer.handling.handler import Handler, Options
from consumer.handling.lifecycle import Lifecycle
from consumer.handling.publications import Channel, Publication
from consumer.handling.quotas import Ledger
from consumer.handling.reconciliation import Reconciliation
from consumer.handling.records import Item, Record, Review, unwritten
from consumer.handling.retention import Expired, Retention, RetentionOptions
from consumer.provisioners.memory import MemoryEngine, MemoryProvisioner
from consumer.reservations import Policy
from consumer.transport.placing import default_partition
from schemas.events import ReservationEvent, Resource, ResourceEvent
from schemas.outbound import Notification, Result
from schemas.state import ReservationState
from tests.handling.topic import States
from tests.reservations import bookings
from tests.reservations.bookings import NINE

INSTANCE = "lab"
TOPIC = "reservations"
GRACE = Policy().grace
LEAD = Policy().lead
RECONCILED_EVERY, RECONCILED_AFTER = 60.0, 120.0
"""Seconds between two looks at the runtimes, and until something is done about a difference."""

TEMPLATES = """
version: 1
templates:
  - {name: linux, match: {type: Linux container}, runtime: docker, image: "nginx:1.27", ports: 80}
  - {name: pod, match: {type: Pod}, runtime: podman, image: "nginx:1.27"}
  - {name: gpu, match: {type: GPU}, runtime: docker, image: "nginx:1.27", exclusive: true}
  - {name: kept, match: {type: Kept}, runtime: docker, image: "nginx:1.27", restart: always}
"""

POD = Resource("21", "Pod 1", "Pod")
GPU = Resource("31", "GPU 1", "GPU")
OTHER_GPU = Resource("32", "GPU 2", "GPU")
KEPT = Resource("41", "Kept 1", "Kept")

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)

Review_ = Callable[[Assignment, str], bool]


@dataclass(frozen=True, slots=True)
class Said:
    """A result, as it was published."""

    at: datetime
    reservation: str
    outcome: str
    reason: str | None
    id: str


class World:
    """What outlives the service: two runtimes, the topics, the committed offsets and the wall clock."""

    def __init__(
        self,
        templates: str = TEMPLATES,
        *,
        partitions: int = 2,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        exclusive_wait: float = 600.0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        poll_after: float = 0.0,
        publishing_takes: float = 0.01,
        watched: bool = False,
        retention: float = 7 * 24 * 3600.0,
        pool: Mapping[str, MemoryEngine] | None = None,
    ) -> None:
        self.templates = templates
        self.policy = policy
        self.exclusive_wait = exclusive_wait
        self.limits = limits
        self.poll_after = poll_after
        """Seconds from the restoration of a partition to its first record."""

        self.publishing_takes = publishing_takes
        self.watched = watched
        """Whether runtimes tell of what ends, instead of being asked only."""

        self.retention = retention
        self.rng = random.Random(1)  # noqa: S311 - the same each time, of waits before another attempt
        self.docker, self.podman = MemoryEngine(), MemoryEngine()
        self._pool = pool
        self.inbound: list[list[Item]] = [[] for _ in range(partitions)]
        self.states: dict[int, dict[str, Publication]] = defaultdict(dict)
        self.committed: dict[int, OffsetMap] = {}
        self.said: list[Said] = []
        self.notes: list[Notification] = []
        self.letters: list[Publication] = []
        self.wall_is_ahead = timedelta()
        self.service: Service | None = None

    @property
    def runtimes(self) -> Mapping[str, MemoryEngine]:
        """What there is to run environments on, by name."""
        return {"docker": self.docker, "podman": self.podman} if self._pool is None else self._pool

    def now(self) -> datetime:
        """The true time."""
        return NINE + timedelta(seconds=asyncio.get_running_loop().time())

    def wall(self) -> datetime:
        return self.now() + self.wall_is_ahead

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())

    async def sleep_until(self, moment: datetime) -> None:
        await self.sleep(moment - self.now())

    # The platform

    def partition_of(self, reservation_id: str) -> int:
        return default_partition(reservation_id.encode(), len(self.inbound))

    def send(self, event: ReservationEvent) -> None:
        """Write an event to its partition; the service takes it in at once, if there is one."""
        partition = self.partition_of(event.reservation_id)
        offset = len(self.inbound[partition])
        record = Record(TOPIC, partition, offset, 0, event.reservation_id.encode(), b"{}")
        self.inbound[partition].append(Item(record, event))
        if self.service is not None:
            self.service.poll(partition)

    # The service

    async def starts(self, **options: Any) -> "Service":
        self.service = Service(self, **options)
        await self.service.begin()
        return self.service

    async def dies(self) -> None:
        """As SIGKILL does."""
        service, self.service = self.service, None
        if service is not None:
            await service.die()

    async def restarts(self) -> None:
        await self.dies()
        await self.starts()

    @asynccontextmanager
    async def served(self, **options: Any) -> AsyncIterator["Service"]:
        service = await self.starts(**options)
        try:
            yield service
        finally:
            await self.dies()

    def take(self, published: Publication) -> None:
        match published.channel:
            case Channel.STATE:
                assert published.partition is not None
                name = (published.key or b"").decode()
                if published.value is None:
                    self.states[published.partition].pop(name, None)
                else:
                    self.states[published.partition][name] = published
            case Channel.DEAD_LETTER:
                self.letters.append(published)
            case Channel.OUTBOUND if b".notification." in (dict(published.headers)["ce_type"] or b""):
                self.notes.append(Notification.model_validate_json(published.value or b""))
            case Channel.OUTBOUND:
                result = Result.model_validate_json(published.value or b"")
                reason = result.reason.code if result.reason else None
                self.said.append(Said(self.now(), result.event_id, result.outcome, reason, str(result.id)))

    # What a test looks at

    def outcomes(self, reservation_id: str = "1841") -> list[tuple[str, str | None]]:
        return [(each.outcome, each.reason) for each in self.said if each.reservation == reservation_id]

    def state(self, reservation_id: str = "1841") -> ReservationState | None:
        """What is remembered in the topic."""
        written = self.states[self.partition_of(reservation_id)].get(reservation_id)
        return ReservationState.model_validate_json(written.value or b"") if written else None

    def exists(self, reservation_id: str = "1841") -> bool:
        """Whether there is an environment, running or not."""
        key = reservation_key(INSTANCE, reservation_id)
        return any(engine._of(key) for engine in self.runtimes.values())

    @property
    def environments(self) -> set[str]:
        return set().union(*(engine.names() for engine in self.runtimes.values()))

    @property
    def violations(self) -> list[str]:
        return [violation for engine in self.runtimes.values() for violation in engine.violations]


class Service:
    """One process, from its start until it is killed. It owns all partitions, unless told which."""

    def __init__(self, world: World, *, partitions: Iterable[int] | None = None, instance: str = INSTANCE) -> None:
        self._world = world
        self._partitions = list(partitions if partitions is not None else range(len(world.inbound)))
        self._polled: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.assignments: dict[int, Assignment] = {}
        self.clock = SteadyClock(world.wall, asyncio.get_running_loop().time)
        catalog = Catalog.from_yaml(world.templates, instance=instance)
        self.ledger = Ledger(catalog.quotas, is_shut=self.is_shut)
        states = States(world.states)
        self.agenda = Agenda(states, world.policy, self.ledger, self.clock.now)
        self.retention = Retention(states, RetentionOptions(world.retention, [TOPIC]), now=self.clock.now)
        self.provisioners = [
            MemoryProvisioner(engine, instance=instance, runtime=name) for name, engine in world.runtimes.items()
        ]
        self.lifecycle = Lifecycle(
            catalog,
            {each.runtime: each for each in self.provisioners},
            instance=instance,
            start_timeout=300.0,
            release_timeout=60.0,
            exclusive_wait=world.exclusive_wait,
            ledger=self.ledger,
            is_shut=self.is_shut,
            now=self.clock.now,
        )
        options = Options(
            instance=instance,
            provision_retries=RetryPolicy(max_attempts=3, rng=world.rng),
            release_retries=RetryPolicy(max_attempts=30, max_elapsed=1800.0, rng=world.rng),
            policy=world.policy,
        )
        handler = Handler(self.lifecycle, self.agenda, options, now=self.clock.now)
        self.guard = Guard(handler, self.agenda, self.retention, instance=instance, now=self.clock.now)
        self.dispatcher: Dispatcher[Item, Publication] = Dispatcher(
            self.handle,
            self._publish,
            limits=world.limits,
            breakers=BreakerPolicy(open_for=5.0, rng=world.rng),
            group_of=self.guard.group_of,
            interrupts=handler.interrupts,
            on_crash=self.crashed,
        )
        self.reconciliation = Reconciliation(
            self.agenda,
            self.lifecycle,
            self.ledger,
            partition_of=world.partition_of,
            now=self.clock.now,
            interval=RECONCILED_EVERY,
            delay=RECONCILED_AFTER,
            grace=world.policy.grace,
        )

    async def begin(self) -> None:
        await self.reconciliation.look_ahead()
        await self.dispatcher.__aenter__()
        self._go(
            self.agenda.run(self.review),
            self.reconciliation.run(self.look),
            self.retention.run(self.forget),
            self._commit(),
            *(self.reconciliation.watch(each, self.look) for each in self.provisioners if self._world.watched),
        )
        await self.gain(*self._partitions)

    async def gain(self, *partitions: int) -> None:
        """Take these partitions over, and whatever of them was not done."""
        taken = [Assignment(TOPIC, partition) for partition in partitions]
        await self.agenda.restore(taken)
        for assignment in taken:
            if (known := self._world.committed.get(assignment.partition)) is not None:
                assignment.watermark.resume(known)
            self.assignments[assignment.partition] = assignment
            if self._world.poll_after:
                self._go(self._poll_later(assignment))
            else:
                self._poll_first(assignment)

    async def lose(self, *partitions: int) -> None:
        """Give these partitions up, as at a rebalance."""
        lost = [self.assignments.pop(partition) for partition in partitions]
        for partition in partitions:
            self._polled.pop(partition, None)
        await self.dispatcher.drain(lost, 25.0)
        self._commit_now(lost)
        self.agenda.forget(lost)

    async def die(self) -> None:
        for assignment in self.assignments.values():
            assignment.closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.dispatcher.__aexit__(None, None, None)

    def poll(self, partition: int) -> None:
        """Take in what has come since the last time."""
        if partition not in self._polled:
            return
        assignment = self.assignments[partition]
        items = self._world.inbound[partition]
        for offset in range(self._polled[partition], len(items)):
            item = items[offset]
            if not assignment.watermark.is_done(offset):
                self.dispatcher.admit(assignment, offset, [(_lane_of(item), item)], item.record.size)
        self._polled[partition] = len(items)

    async def handle(self, work: Work[Item]) -> Verdict[Publication]:
        return await self.guard.handle(work)

    def is_shut(self, runtime: str) -> bool:
        return self.dispatcher.is_shut(runtime)

    def crashed(self, work: Work[Item], error: BaseException) -> None:
        raise AssertionError(f"the dispatcher met a defect: {error!r}") from error

    def review(self, assignment: Assignment, reservation_id: str, *, look: bool = False) -> bool:
        item = Item(unwritten(assignment, reservation_id), Review(reservation_id, look=look))
        return self._admit(assignment, reservation_id, item)

    def look(self, assignment: Assignment, reservation_id: str) -> bool:
        return self.review(assignment, reservation_id, look=True)

    def forget(self, assignment: Assignment, reservation_id: str) -> bool:
        item = Expired(unwritten(assignment, reservation_id), Review(reservation_id))
        return self._admit(assignment, reservation_id, item)

    def _admit(self, assignment: Assignment, reservation_id: str, item: Item) -> bool:
        if assignment.partition not in self._polled:
            return False  # records that may change everything have not been read yet
        return self.dispatcher.admit_own(assignment, reservation_id, item)

    async def settled(self) -> None:
        """Return when nothing is left to do."""
        while self.dispatcher.outstanding:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)

    def _poll_first(self, assignment: Assignment) -> None:
        known = self._world.committed.get(assignment.partition)
        self._polled[assignment.partition] = known.position if known is not None else 0
        self.poll(assignment.partition)

    async def _poll_later(self, assignment: Assignment) -> None:
        await asyncio.sleep(self._world.poll_after)
        if not assignment.closed:
            self._poll_first(assignment)

    def _publish(self, assignment: Assignment, publications: Sequence[Publication]) -> asyncio.Future[None]:
        acked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._go(self._write(publications, acked))
        return acked

    async def _write(self, publications: Sequence[Publication], acked: "asyncio.Future[None]") -> None:
        """Whoever dies meanwhile has written some of it; the state comes last."""
        for state in (False, True):
            await asyncio.sleep(self._world.publishing_takes)
            for each in publications:
                if (each.channel is Channel.STATE) is state:
                    self._world.take(each)
        acked.set_result(None)

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(5.0)
            self._commit_now(self.assignments.values())

    def _commit_now(self, assignments: Iterable[Assignment]) -> None:
        for assignment in assignments:
            if (done := assignment.watermark.snapshot()) is not None:
                self._world.committed[assignment.partition] = done

    def _go(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        for coroutine in coroutines:
            task = asyncio.get_running_loop().create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _lane_of(item: Item) -> Hashable:
    match item.content:
        case ReservationEvent(reservation_id=reservation_id):
            return reservation_id
        case ResourceEvent(resource=resource):
            return "resource", resource.id
    raise AssertionError(f"nobody sends {item.content}")


def start(name: str = "1841", **changes: Any) -> ReservationEvent:
    return bookings.start(reservation_id=name, **changes)


def end(name: str = "1841", **changes: Any) -> ReservationEvent:
    return bookings.end(reservation_id=name, **changes)


def created(name: str = "1841", **changes: Any) -> ReservationEvent:
    return bookings.created(reservation_id=name, **changes)


def updated(number: int, name: str = "1841", **changes: Any) -> ReservationEvent:
    return bookings.updated(number, reservation_id=name, **changes)


def deleted(name: str = "1841", **changes: Any) -> ReservationEvent:
    return bookings.deleted(reservation_id=name, **changes)
