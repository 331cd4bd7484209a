"""The partitions this member owns: taken over with all that is remembered of them, and given up in good order.

The group's rebalances arrive here through aiokafka's listener, in a task of its client. Nothing here waits for the task
that polls, nor does that wait for this: each assignment says for itself whether it may still be polled.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from consumer.dispatch import Assignment, Dispatcher, OffsetMap
from consumer.transport.commits import Committer
from consumer.transport.connection import Connection
from consumer.transport.membership import was_thrown_out
from consumer.transport.offsets import read_offset_maps
from consumer.transport.options import Options

log = structlog.get_logger("moorage.partitions")


_NOTHING_COMES = 30.0


class Memory(Protocol):
    """What is remembered of a partition beyond its offsets, such as the state of what its records are about."""

    async def restore(self, assignments: Iterable[Assignment]) -> None:
        """Return when all that is remembered of these is at hand; their first record is handled after that."""
        ...

    def forget(self, assignments: Iterable[Assignment]) -> None:
        """Drop what is remembered of these: somebody else owns them from now on."""
        ...


class NoMemory:
    """For handlers that remember nothing."""

    async def restore(self, assignments: Iterable[Assignment]) -> None:
        pass

    def forget(self, assignments: Iterable[Assignment]) -> None:
        pass


class Partitions:
    """What this member owns at the moment, and where its polling has come to."""

    def __init__(
        self,
        connection: Connection,
        consumer: AIOKafkaConsumer,
        options: Options,
        *,
        dispatcher: Dispatcher[Any, Any],
        committer: Committer,
        memory: Memory,
        start: Callable[..., asyncio.Task[None]],
    ) -> None:
        self._connection = connection
        self._consumer = consumer
        self._options = options
        self._dispatcher = dispatcher
        self._committer = committer
        self._memory = memory
        self._start = start
        self._owned: dict[TopicPartition, Assignment] = {}
        self._epochs: dict[TopicPartition, int] = {}
        self._restoring: set[asyncio.Task[None]] = set()
        self._leaving_all = False
        self.positions: dict[Assignment, int] = {}
        """The offset that is taken in next, of all partitions that may be polled."""

        self._backlogs: dict[Assignment, int] = {}
        """Where each log ended when its partition was taken over."""

        self._moved_at: dict[Assignment, float] = {}
        self.unstable_since: float | None = asyncio.get_running_loop().time()
        """Loop time since when the group has been dividing its partitions anew; None while it is settled."""

    def __iter__(self) -> Iterator[tuple[TopicPartition, Assignment]]:
        return iter(list(self._owned.items()))

    def get(self, tp: TopicPartition) -> Assignment | None:
        return self._owned.get(tp)

    @property
    def assignments(self) -> list[Assignment]:
        return list(self._owned.values())

    @property
    def restored(self) -> bool:
        """Whether all owned partitions have their state and may be polled."""
        return all(assignment in self.positions for assignment in self._owned.values())

    def moved(self, assignment: Assignment, position: int) -> None:
        """Note that records below `position` were taken in."""
        self.positions[assignment] = position
        self._moved_at[assignment] = asyncio.get_running_loop().time()

    def caught_up(self, assignment: Assignment) -> bool:
        """Whether everything was taken in that lay there when the partition was taken over.

        Only then is it known what was said while nobody listened; in any topic, since partitions of the same number
        share what is remembered.
        """
        owned = [each for each in self._owned.values() if each.partition == assignment.partition]
        return assignment in owned and all(map(self._caught_up, owned))

    def _caught_up(self, assignment: Assignment) -> bool:
        """A log may end in what is no record, so that after a while without any it counts as taken in."""
        position = self.positions.get(assignment)
        if position is None:
            return False
        idle = asyncio.get_running_loop().time() - self._moved_at[assignment]
        return position >= self._backlogs.get(assignment, 0) or idle > _NOTHING_COMES

    def rewind(self, tp: TopicPartition, offset: int) -> None:
        """Have what lies from `offset` on delivered again, provided that the partition is still ours."""
        with suppress(IllegalStateError):
            self._consumer.seek(tp, offset)

    # Taking over

    async def take_over(self, partitions: Iterable[TopicPartition]) -> None:
        """Own these partitions; they are polled once their state is restored."""
        self.unstable_since = None
        if self._leaving_all:
            return
        taken = []
        for tp in partitions:
            epoch = self._epochs[tp] = self._epochs.get(tp, 0) + 1
            assignment = self._owned[tp] = Assignment(tp.topic, tp.partition, epoch)
            taken.append(assignment)
        log.info("partitions_assigned", partitions=[repr(assignment) for assignment in taken])
        if taken:
            restoring = self._start(self._restore(taken), name="restore")
            self._restoring.add(restoring)
            restoring.add_done_callback(self._restoring.discard)

    async def _restore(self, assignments: list[Assignment]) -> None:
        await self._memory.restore(assignments)
        locating = {asyncio.create_task(self._located(each)): each for each in assignments}
        try:
            while locating:
                # All at once, as a rule. But a partition without a leader must not hold up the others.
                await asyncio.wait(locating, timeout=1.0)
                await self._open({locating.pop(task): task.result() for task in list(locating) if task.done()})
        finally:
            for task in locating:
                task.cancel()

    async def _open(self, positions: dict[Assignment, int]) -> None:
        """Let these be polled from their positions on, apart from what earlier owners have done above."""
        places = {_tp(assignment): position for assignment, position in positions.items() if not assignment.closed}
        if not places:
            return
        maps = await self._within_the_log(await read_offset_maps(self._connection, self._options.group, places))
        for assignment, position in positions.items():
            if assignment.closed:
                continue
            if (known := maps.get(_tp(assignment))) is not None:
                assignment.watermark.resume(known)
                done = known.end - known.position - len(known.pending)
                log.info("offset_map_read", partition=repr(assignment), position=known.position, done_above=done)
            self.moved(assignment, position)
        self._dispatcher.look_again()

    async def _within_the_log(self, maps: dict[TopicPartition, OffsetMap]) -> dict[TopicPartition, OffsetMap]:
        """Without maps of a log that has lost its end since: what is there instead was not done."""
        try:
            async with asyncio.timeout(self._options.commit_timeout):
                ends = await self._consumer.end_offsets(list(maps)) if maps else {}
        except (KafkaError, TimeoutError) as error:
            log.warning("offset_maps_ignored", why=f"where the logs end is unknown: {type(error).__name__}: {error}")
            return {}
        for tp in [tp for tp, known in maps.items() if known.end > ends[tp]]:
            log.warning("offset_map_ignored", partition=f"{tp.topic}/{tp.partition}", why=f"the log ends at {ends[tp]}")
            del maps[tp]
        return maps

    async def _located(self, assignment: Assignment) -> int:
        """Where polling begins. Retries until it is known, or the assignment is closed."""
        tp = _tp(assignment)
        while not assignment.closed:
            try:
                # The client's own patience is 40 s, or none: asking again is quicker than waiting for a lost answer.
                async with asyncio.timeout(self._options.commit_timeout):
                    first = (await self._consumer.beginning_offsets([tp]))[tp]
                    position = max(int(await self._consumer.position(tp)), int(first))
                    committed = await self._consumer.committed(tp)
                    self._backlogs[assignment] = (await self._consumer.end_offsets([tp]))[tp]
            except (KafkaError, TimeoutError) as error:
                log.error("position_unknown", partition=repr(assignment), why=f"{type(error).__name__}: {error}")
                await asyncio.sleep(1.0)
                continue
            if committed is not None and position != committed:
                log.warning("offset_out_of_range", partition=repr(assignment), committed=committed, begins_at=position)
                assignment.watermark.begin(position)
            return position
        return 0

    # Giving up

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Give these partitions up: in good order, or at once where others have them already."""
        self.unstable_since = asyncio.get_running_loop().time()
        gone = [self._owned[tp] for tp in partitions if tp in self._owned]
        if gone:
            lost = was_thrown_out(self._consumer)
            log.info("partitions_lost" if lost else "partitions_revoked", partitions=[repr(each) for each in gone])
            await self._let_go(gone, within=0.0 if lost else self._options.drain_timeout)

    async def leave_all(self) -> bool:
        """Give everything up and take nothing over any more. True when nothing that was begun was cut off."""
        self._leaving_all = True
        finished = await self._let_go(self.assignments, within=self._options.drain_timeout)
        for task in self._restoring:
            task.cancel()
        return finished

    async def _let_go(self, leaving: list[Assignment], *, within: float) -> bool:
        """Finish and commit the work of these, then forget them."""
        try:
            cut_off = await self._dispatcher.drain(leaving, within)
            if cut_off:
                log.warning(
                    "drain_timed_out",
                    seconds=within,
                    cut_off=len(cut_off),
                    first=[f"{each.key} ({each.topic}/{each.partition}/{each.offset})" for each in cut_off[:10]],
                    consequence="they are handled again by whoever owns their partitions next",
                )
            committed = await self._committer.commit(leaving)
        finally:
            for assignment in leaving:
                if self._owned.get(_tp(assignment)) is assignment:  # it may have come back meanwhile, as another one
                    del self._owned[_tp(assignment)]
                for known in (self.positions, self._backlogs, self._moved_at):
                    known.pop(assignment, None)
            self._memory.forget(leaving)
            self._committer.forget(leaving)
        return committed and not cut_off


class Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """aiokafka swallows what a listener raises, so what goes wrong here is at least logged."""

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        try:
            await self._partitions.revoke(revoked)
        except Exception:
            log.exception("revocation_failed")
            raise

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._partitions.take_over(assigned)


def _tp(assignment: Assignment) -> TopicPartition:
    return TopicPartition(assignment.topic, assignment.partition)
