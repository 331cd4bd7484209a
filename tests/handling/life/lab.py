"""The world with members that share its partitions, come, go and are killed, and somebody who watches all they do."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from consumer.catalog.identity import reservation_key
from consumer.catalog.templates import Catalog
from consumer.dispatch import Done, Verdict, Work
from consumer.handling.ports import Status
from consumer.handling.publications import Channel, Publication
from consumer.handling.records import Item, Record
from consumer.provisioners.memory import MemoryEngine, MemoryProvisioner
from schemas.events import ReservationEvent, ResourceEvent
from schemas.inbound import decode
from tests.handling.life.watch import Watch
from tests.handling.world import INSTANCE, TOPIC, Service, World
from tests.reservations import bookings
from tests.reservations.bookings import NINE

NEIGHBOUR = "neighbour"
"""Another installation that uses the same runtimes, and the same reservations."""

HORIZON = 4 * 3600
"""Seconds of calm after which whatever is not done never will be."""


class Member(Service):
    """A process whose doings are watched."""

    lab: "Lab"

    async def gain(self, *partitions: int) -> None:
        for partition in partitions:
            self.lab.watch.comes_again(partition, self.lab.committed.get(partition))
        await super().gain(*partitions)

    async def handle(self, work: Work[Item]) -> Verdict[Publication]:
        verdict = await super().handle(work)
        if isinstance(verdict, Done):
            self.lab.watch.handled(work, verdict)
        return verdict

    def crashed(self, work: Work[Item], error: BaseException) -> None:
        self.lab.watch.problem(f"the dispatcher met a defect: {error!r}")


class Lab(World):
    """A world of several members. Partitions are divided among those that live, all of them anew each time."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._loop = asyncio.get_running_loop()
        self.watch = Watch(self)
        self.docker, self.podman = (WatchedEngine(self.watch) for _ in range(2))
        self.members: list[Member] = []
        self._dividing = asyncio.Lock()

    def now(self) -> datetime:
        """The true time, which may be asked for between two turns of the loop."""
        return NINE + timedelta(seconds=self._loop.time())

    @property
    def engines(self) -> tuple[MemoryEngine, MemoryEngine]:
        return self.docker, self.podman

    async def neighbours(self, names: Iterable[str]) -> None:
        """Have the other installation run an environment for each of these reservations."""
        catalog = Catalog.from_yaml(self.templates, instance=NEIGHBOUR)
        provisioner = MemoryProvisioner(self.docker, instance=NEIGHBOUR, runtime="docker")
        for name in names:
            spec = catalog.resolve(bookings.active(reservation_id=name))
            await provisioner.ensure(spec, lambda progress: None)

    # The platform

    def send(self, event: ReservationEvent | ResourceEvent) -> None:
        name = event.reservation_id if isinstance(event, ReservationEvent) else event.resource.id
        partition = self.partition_of(name)
        offset = len(self.inbound[partition])
        record = Record(TOPIC, partition, offset, 0, name.encode(), b"{}")
        self.inbound[partition].append(Item(record, event))
        self.watch.sent(partition, offset, event)
        for member in self.members:
            if partition in member.assignments:
                member.poll(partition)

    def take(self, published: Publication) -> None:
        try:
            self._take(published)
        except Exception as error:  # noqa: BLE001 - whoever publishes would wait for ever, and nobody would know why
            self.watch.problem(f"what was published is not to be understood: {error!r}: {published}")

    def _take(self, published: Publication) -> None:
        if published.channel is Channel.INBOUND:
            for event in decode(published.value):
                assert isinstance(event, ReservationEvent)
                self.send(event)
            return
        self.watch.published(published)
        super().take(published)

    # The members

    async def joins(self) -> None:
        member = Member(self, partitions=[])
        member.lab = self
        await member.begin()
        self.members.append(member)
        self.watch.shared |= len(self.members) > 1
        await self.divide()

    async def leaves(self, member: Member) -> None:
        """In good order."""
        self.members.remove(member)
        await member.lose(*member.assignments)
        await member.die()
        await self.divide()

    async def is_killed(self, member: Member) -> None:
        """Its partitions are nobody's until the next time they are divided."""
        self.watch.crashes += 1
        self.members.remove(member)
        await member.die()

    async def divide(self) -> None:
        """Everybody gives up everything, and then takes over what is theirs now."""
        async with self._dividing:
            await asyncio.gather(*(member.lose(*member.assignments) for member in self.members))
            shares = zip(self.members, _ranges(len(self.inbound), len(self.members)), strict=False)
            await asyncio.gather(*(member.gain(*share) for member, share in shares))

    # What is there

    def live(self, name: str) -> list[tuple[str, str]]:
        """Resource and user of every environment of the reservation that is not stopped, on any runtime."""
        made = [made for engine in self.engines for made in engine._of(reservation_key(INSTANCE, name))]
        return [(each.spec.resource.id, each.spec.user.id) for each in made if each.status is not Status.STOPPED]

    def vanishes(self, name: str, *, stops: bool) -> None:
        """Somebody removes the reservation's environment, or it dies."""
        key = reservation_key(INSTANCE, name)
        for engine in self.engines:
            for made in engine._of(key):
                if made.status is Status.DYING:
                    continue
                if stops:
                    engine.stop(key)
                else:
                    engine.vacate(made.spec.name)

    # Peace

    def calm_down(self) -> None:
        """From now on everything works."""
        self.wall_is_ahead, self.publishing_takes = timedelta(), 0.01
        for engine in self.engines:
            engine.reachable, engine.latency = True, 0.0
            engine._failures.clear()
            engine._lost_replies.clear()

    async def settles(self) -> None:
        """Return when nothing is left to do, and what differed had the time to be noticed."""
        deadline = asyncio.get_running_loop().time() + HORIZON
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(300.0)
            busy = [each for member in self.members for each in member.dispatcher.unfinished()]
            quiet = 0 if busy else quiet + 1
            if asyncio.get_running_loop().time() > deadline:
                self.watch.problem(f"after {HORIZON} s of calm this is not done: {busy}")
                return


class WatchedEngine(MemoryEngine):
    """A runtime that tells `watch` of everything made on it."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def _create(self, spec: Any, instance: str) -> None:
        super()._create(spec, instance)
        if instance == INSTANCE:
            self._watch.made(spec)


def resent(event: ReservationEvent | ResourceEvent, lab: Lab) -> ReservationEvent | ResourceEvent:
    """As the platform repeats it: with the time of now."""
    return replace(event, occurred_at=lab.now())


def _ranges(partitions: int, members: int) -> list[list[int]]:
    """As the range assignor divides them."""
    if not members:
        return []
    least, more = divmod(partitions, members)
    bounds = [number * least + min(number, more) for number in range(members + 1)]
    return [list(range(*pair)) for pair in pairwise(bounds)]
