"""A group member in miniature: it polls, commits, loses and regains partitions, and is killed now and then.

Every draw comes from the seed and time is virtual, so a seed tells the same story every time. What breaks an invariant
is collected in `problems`: the dispatcher would take an assertion that fails in a handler for a defect of the handler.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress

from consumer.dispatch import Assignment, Dispatcher, Done, OffsetMap, Outage, Retry, Verdict, Work
from consumer.dispatch import dispatcher as dispatcher_module
from tests.dispatch.scene import now
from tests.dispatch.world import Delivery, Fate, Item, Ledger, Plan

HORIZON = 1e6
"""Virtual seconds after which whatever is not done never will be."""

CALM_AFTER = 300.0
"""From then on no partition moves."""

A_MOMENT = 1e-3


class Killed(Exception):
    """As by `kill -9`: nothing more is committed."""


class Simulation:
    def __init__(self, seed: int) -> None:
        self.plan = plan = Plan(seed)
        dispatcher_module._CRASH_BACKOFF.rng.seed(seed)
        plan.breakers.rng.seed(seed)
        self.problems: list[str] = []
        self.story: list[str] = []
        self.committed = [log[0].offset if log else 0 for log in plan.partitions]
        self.ends = [log[-1].offset + 1 if log else 0 for log in plan.partitions]
        self.metadata = [""] * len(plan.partitions)
        self.done: list[set[int]] = [set() for _ in plan.partitions]
        """Offsets of each partition that were done, whether anybody remembers it or not."""

        self.epochs = [0] * len(plan.partitions)
        self.owned: dict[int, Ledger] = {}
        self.ledgers: dict[Assignment, Ledger] = {}
        self.leaving: set[Assignment] = set()
        self.running: dict[Hashable, Item] = {}
        self.running_in: Counter[str | None] = Counter()
        self.groups: dict[Work[Item], str | None] = {}
        self.runs: Counter[Item] = Counter()
        self.effects: Counter[tuple[int, Hashable]] = Counter()
        """How many items of a partition's key took effect, in their order."""

    async def run(self) -> None:
        for life, lifetime in enumerate([*self.plan.crash_after, HORIZON]):
            await self._live(life, lifetime)
            self.expect(not self.running, f"handlers outlive their dispatcher: {self.running}")
            if self.problems:
                return
        self.expect(self.committed == self.ends, f"committed {self.committed} of {self.ends}")
        effects = Counter((item.partition, item.key) for item in self.plan.items())
        self.expect(self.effects == effects, f"lost: {effects - self.effects}")

    async def _live(self, life: int, lifetime: float) -> None:
        self.owned, self.ledgers, self.leaving, self.groups, self.ending = {}, {}, set(), {}, False
        with suppress(Killed):
            async with self._new_dispatcher() as self.dispatcher:
                self._own(range(len(self.committed)))
                activities = [
                    asyncio.create_task(activity(self.plan.rng(activity.__name__, life)))
                    for activity in (self._poll, self._commit_regularly, self._rebalance, self._watch)
                ]
                await self._until_finished(now() + lifetime, activities)
                self.ending = True
                for activity in activities:
                    activity.cancel()
                await asyncio.wait(activities)
        self.tell("is gone")

    def _new_dispatcher(self) -> Dispatcher[Item, Delivery]:
        return Dispatcher(
            self._handle,
            self._publish,
            limits=self.plan.limits,
            breakers=self.plan.breakers,
            dead_letters=self.plan.dead_letters,
            group_of=self._group_of,
            on_crash=lambda work, error: self.tell(f"{work.item} met {error!r}"),
        )

    async def _until_finished(self, end: float, activities: Iterable[asyncio.Task[None]]) -> None:
        while now() < end and not self.problems and not any(activity.done() for activity in activities):
            if self.committed == self.ends and not self.dispatcher.outstanding:
                self._expect_nothing_left()
                return
            await asyncio.sleep(1.0)
        for activity in activities:
            if activity.done():
                await activity
        self.expect(now() < HORIZON, f"never done: {self.dispatcher.unfinished()}")

    # The consumer

    def _own(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self.epochs[partition] += 1
            assignment = Assignment("reservations", partition, self.epochs[partition])
            ledger = Ledger(assignment, self.plan.partitions[partition], self.committed[partition])
            if self.metadata[partition]:
                known = OffsetMap.decode(self.metadata[partition], self.committed[partition])
                assignment.watermark.resume(known)
                ledger.end = known.end
            self.owned[partition] = self.ledgers[assignment] = ledger
            self.tell(f"owns {assignment} from {self.committed[partition]}")

    async def _poll(self, draw: random.Random) -> None:
        while True:
            looked = [ledger for ledger in self.owned.values() if self.dispatcher.has_room(ledger.assignment)]
            if not looked:
                await self.dispatcher.wait_for_room(draw.uniform(0, 5))
                continue
            # As with `getmany`: partitions may be about to go while the answer is on its way.
            await asyncio.sleep(draw.choice([0.0, 0.01, 1.0]) * draw.random())
            polled = {ledger: self._admit(ledger) for ledger in looked if self.owned.get(ledger.partition) is ledger}
            self._expect_bounds(polled)
            if not any(polled.values()):
                await asyncio.sleep(draw.uniform(0.01, 2))

    def _admit(self, ledger: Ledger) -> list[Item]:
        """Admit what one poll returns of a partition; the items of it that are to be taken."""
        assignment, taken = ledger.assignment, []
        for record in ledger.fetch(self.plan.poll_records, now()):
            if assignment.watermark.is_done(record.offset):
                done = not record.items or record.offset in self.done[ledger.partition]
                self.expect(done, f"{record} is left out and was never done")
                continue
            if assignment not in self.leaving:
                ledger.admit(record)
                taken.extend(record.items)
            self.dispatcher.admit(assignment, record.offset, [(item.key, item) for item in record.items], record.size)
        return taken

    async def _commit_regularly(self, draw: random.Random) -> None:
        while True:
            await asyncio.sleep(draw.uniform(0, 3))
            self._commit(self.owned.values())

    def _commit(self, ledgers: Iterable[Ledger]) -> None:
        for ledger in ledgers:
            position = ledger.assignment.watermark.position
            if position is not None:
                lowest = min(ledger.unfinished, default=ledger.end)
                self.expect(position <= lowest, f"{ledger} commits {position}, but {lowest} is not done")
                self.expect(position >= self.committed[ledger.partition], f"{ledger} goes back to {position}")
                self.committed[ledger.partition] = position
                self.metadata[ledger.partition] = self._describe(ledger)

    def _describe(self, ledger: Ledger) -> str:
        known = ledger.assignment.watermark.snapshot()
        assert known is not None
        forgotten = sorted(
            offset for offset in ledger.unfinished if known.position <= offset and offset not in known.pending
        )
        self.expect(not forgotten, f"{ledger} takes {forgotten} for done")
        return known.encode()

    async def _rebalance(self, draw: random.Random) -> None:
        async with asyncio.TaskGroup() as tasks:
            while now() < CALM_AFTER:
                await asyncio.sleep(draw.expovariate(1 / self.plan.rebalance_every))
                staying = [number for number, each in self.owned.items() if each.assignment not in self.leaving]
                partitions = draw.sample(staying, draw.randint(0, len(staying)))
                tasks.create_task(self._give_away(partitions, draw.choice([0.0, 0.5, 5.0, 60.0]), draw.choice([0, 5])))
        await asyncio.get_running_loop().create_future()

    async def _give_away(self, partitions: Sequence[int], timeout: float, elsewhere: float) -> None:
        ledgers = [self.owned[partition] for partition in partitions]
        leaving = [ledger.assignment for ledger in ledgers]
        self.tell(f"drains {leaving} for {timeout} s")
        self.leaving.update(leaving)
        started = now()
        cut_off = await self.dispatcher.drain(leaving, timeout)
        self.expect(now() - started < timeout + 5.1, f"draining took {now() - started} s of {timeout}")
        self.expect(all(assignment.closed for assignment in leaving), f"{leaving} are still open")
        self.expect(cut_off == [] or now() - started > timeout - A_MOMENT, f"{cut_off} were cut off early")
        self._commit(ledgers)
        for partition in partitions:
            del self.owned[partition]
        await asyncio.sleep(elsewhere)
        self._own(partitions)

    # The handler and the broker

    def _group_of(self, work: Work[Item]) -> str | None:
        self.groups[work] = None
        if self._fate(work).group_unknown:
            raise LookupError("no group")
        self.groups[work] = work.item.group
        return work.item.group

    def _fate(self, work: Work[Item]) -> Fate:
        return Fate(self.plan, work.item, self.runs[work.item])

    async def _handle(self, work: Work[Item]) -> Verdict[Delivery]:
        item, fate, group = work.item, self._fate(work), self.groups.pop(work)
        self.tell(f"{item} starts in {work.assignment}, attempt {work.attempt}")
        self._expect_may_start(work)
        self.runs[item] += 1
        self.running[item.key] = item
        self.running_in[group] += 1
        self._expect_limits(group)
        ending = fate.ending
        try:
            if fate.takes is not None:
                await asyncio.sleep(fate.takes)
        except asyncio.CancelledError:
            self.tell(f"{item} is cancelled")
            self.expect(work.assignment.closed or self.ending, f"{item} is cancelled for no reason")
            await asyncio.sleep(fate.cleanup)
            ending = fate.cancelled_ending
        finally:
            self.running_in[group] -= 1
            if self.running.pop(item.key, None) is not item:
                self.problems.append(f"{item} did not run alone")
        self.tell(f"{item} ends with {ending!r}")
        if isinstance(ending, BaseException):
            raise ending
        if isinstance(ending, Retry | Outage):
            return ending
        # Also where there is nothing to tell: an outcome takes effect when it is let through, not before.
        after, error = (ending.publications or ((0.0, None),))[0]
        return Done((Delivery(work, after, error),), ending.dead_letters)

    def _publish(self, assignment: Assignment, deliveries: Sequence[Delivery]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        acked: asyncio.Future[None] = loop.create_future()
        loop.call_later(deliveries[0].after, self._answer, deliveries[0], acked)
        return acked

    def _answer(self, delivery: Delivery, acked: "asyncio.Future[None]") -> None:
        if isinstance(delivery.error, asyncio.CancelledError):
            acked.cancel()
        elif delivery.error is not None:
            acked.set_exception(delivery.error)
        else:
            self._took_effect(delivery.work)
            acked.set_result(None)

    def _took_effect(self, work: Work[Item]) -> None:
        item = work.item
        place = (item.partition, item.key)
        self.effects[place] = max(self.effects[place], item.index + 1)
        ledger = self.ledgers.get(work.assignment)
        if ledger is not None and not work.assignment.closed:
            self.expect(ledger.done(item), f"{item} is done out of turn in {work.assignment}")
            if item.offset not in ledger.unfinished:
                self.done[item.partition].add(item.offset)

    # What must always be true

    def expect(self, condition: bool, otherwise: str) -> None:
        if not condition:
            self.problems.append(f"{now():.3f} {otherwise}")
            self.tell(f"PROBLEM: {otherwise}")

    def tell(self, what: str) -> None:
        self.story.append(f"{now():10.3f} {what}")

    def _expect_may_start(self, work: Work[Item]) -> None:
        item = work.item
        self.expect(not work.assignment.closed, f"{item} starts for a partition that was left")
        self.expect(item.key not in self.running, f"{item} starts while {self.running.get(item.key)} runs")
        self.expect(self.effects[item.partition, item.key] >= item.index, f"{item} overtakes an earlier one")
        head = self.ledgers[work.assignment].head(item.key)
        self.expect(head is item, f"{item} starts before {head}")

    def _expect_limits(self, group: str | None) -> None:
        limits = self.plan.limits
        self.expect(len(self.running) <= limits.concurrency, f"{len(self.running)} handlers run")
        running = self.running_in[group]
        self.expect(running <= self.plan.limit_of(group), f"{running} handlers run in {group}")

    def _expect_bounds(self, polled: dict[Ledger, list[Item]]) -> None:
        """Nothing beyond its bound but what the last poll returned."""
        limits, items = self.plan.limits, sum(map(len, polled.values()))
        if not items:
            return
        outstanding = self.dispatcher.outstanding
        self.expect(outstanding < limits.max_records + items, f"{outstanding} items in memory after a poll of {items}")
        weight, added = self.dispatcher._budget.bytes, sum(item.size for taken in polled.values() for item in taken)
        self.expect(weight < limits.max_bytes + max(added, 1), f"{weight} bytes in memory after a poll of {added}")
        for ledger, taken in polled.items():
            outstanding = ledger.assignment.outstanding
            bound = limits.max_records_per_partition + max(len(taken), 1)
            self.expect(outstanding < bound, f"{outstanding} items of {ledger} in memory after {len(taken)}")

    async def _watch(self, draw: random.Random) -> None:
        """At any time: budgets count what is there, and nothing that may run waits."""
        while True:
            await asyncio.sleep(draw.uniform(0, 5))
            unfinished = len(self.dispatcher.unfinished())
            counted = sum(assignment.outstanding for assignment in self.ledgers)
            self.expect(unfinished == self.dispatcher.outstanding == counted, f"{unfinished} items, {counted} counted")
            waiting = self._waiting_for_nothing()
            await asyncio.sleep(A_MOMENT)  # something may have happened in the same moment as the look
            waiting &= self._waiting_for_nothing()
            self.expect(not waiting, f"{waiting} wait while slots are free")

    def _waiting_for_nothing(self) -> set[tuple[int, int]]:
        """(partition, offset) of heads that are ready and have a slot, in their group too."""
        limits = self.plan.limits
        if len(self.running) >= limits.concurrency or self.dispatcher.unacknowledged >= limits.max_unacknowledged:
            return set()
        full = set(self.dispatcher.outages)
        full |= {group for group in self.running_in if self.running_in[group] >= self.plan.limit_of(group)}
        return {
            (work.item.partition, work.item.offset)
            for work, group in self.groups.items()
            if group not in full and work.assignment in self.ledgers and work.assignment not in self.leaving
        }

    def _expect_nothing_left(self) -> None:
        left = [assignment for assignment in self.ledgers if assignment.outstanding]
        self.expect(not left, f"{left} still hold their budget")
        self.expect(self.dispatcher.unfinished() == [], f"left: {self.dispatcher.unfinished()}")
        self.expect(self.dispatcher._budget.bytes == 0, f"{self.dispatcher._budget.bytes} bytes never given back")
        closed = [ledger for ledger in self.owned.values() if not self.dispatcher.has_room(ledger.assignment)]
        leaving = [ledger for ledger in closed if ledger.assignment in self.leaving]
        self.expect(not self.dispatcher._draining, f"{self.dispatcher._draining} are remembered for ever")
        self.expect(closed == leaving, f"no room for {closed}")
