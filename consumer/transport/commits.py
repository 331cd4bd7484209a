"""Committing: the watermark, and beside it what is done above; nothing else, and bounded in time."""

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, OffsetMetadataTooLargeError
from aiokafka.structs import OffsetAndMetadata

from consumer.dispatch import Assignment
from consumer.dispatch.offset_map import LIMIT

log = structlog.get_logger("moorage.commits")

_CROWDED_AT = 0.75
_CALM_AT = 0.5


class Committer:
    """Commits how far assignments have come, where that changed since the last time.

    An offset map that fills more than three quarters of what a broker takes marks its assignment as crowded: nothing
    new is taken in until its lowest offsets are done. One that does not fit is left out of the commit: then a crash
    repeats what was done above the watermark, which is harmless.
    """

    def __init__(self, consumer: AIOKafkaConsumer, *, timeout: float) -> None:
        self._consumer = consumer
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._limit = LIMIT
        self._committed: dict[Assignment, int] = {}
        """How many changes of each assignment were committed."""

        self._due_since: dict[Assignment, float] = {}
        """Loop time of the first attempt to commit what of an assignment is not committed yet."""

    def age(self, assignments: Iterable[Assignment]) -> float:
        """Seconds for which something of these assignments has been waiting to be committed."""
        now = asyncio.get_running_loop().time()
        return max((now - self._due_since.get(each, now) for each in assignments if self._is_due(each)), default=0.0)

    async def commit(self, assignments: Iterable[Assignment]) -> bool:
        """Commit the watermarks of `assignments`; False when the broker did not confirm in time.

        A failure loses nothing: the offsets stay due, and at worst their records are handled again.
        """
        # One after the other: a commit that is still being retried must not arrive after a newer one.
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                return await self._commit(assignments)
        except TimeoutError:
            log.warning("commit_failed", why=f"no answer within {self._timeout:g} s")
            return False

    async def _commit(self, assignments: Iterable[Assignment]) -> bool:
        started = asyncio.get_running_loop().time()
        due = {assignment: assignment.watermark.changes for assignment in assignments if self._is_due(assignment)}
        if not due:
            return True
        for assignment in due:
            self._due_since.setdefault(assignment, started)
        try:
            await self._send(due)  # retried by aiokafka for as long as the error is retriable, which can be for ever
        except (CommitFailedError, IllegalStateError) as error:
            log.info("commit_superseded", why=f"{type(error).__name__}: the group has moved on")
            return False
        except KafkaError as error:
            log.warning("commit_failed", why=f"{type(error).__name__}: {error}", partitions=len(due))
            return False
        self._committed.update(due)
        for assignment in due:
            if self._is_due(assignment):
                self._due_since[assignment] = started
            else:
                self._due_since.pop(assignment, None)
        return True

    def measure(self, assignment: Assignment) -> None:
        """Let the assignment learn how much room its offset map leaves, before the next commit would."""
        if (known := assignment.watermark.snapshot()) is not None:
            self._fitting(assignment, known.encode())

    def forget(self, assignments: Iterable[Assignment]) -> None:
        for assignment in assignments:
            self._committed.pop(assignment, None)
            self._due_since.pop(assignment, None)

    def _is_due(self, assignment: Assignment) -> bool:
        return assignment.watermark.changes != self._committed.get(assignment, 0)

    async def _send(self, assignments: Iterable[Assignment]) -> None:
        try:
            await self._consumer.commit(self._offsets(assignments))
        except OffsetMetadataTooLargeError:
            if self._limit == 0:
                raise  # it was not about the maps
            # The brokers take less than is usual, and do not say how much.
            self._limit //= 2
            log.warning(
                "offset_maps_too_large",
                limit=self._limit,
                remedy=f"set offset.metadata.max.bytes of the brokers to {LIMIT}, their default",
            )
            await self._send(assignments)

    def _offsets(self, assignments: Iterable[Assignment]) -> dict[TopicPartition, OffsetAndMetadata]:
        offsets = {}
        for assignment in assignments:
            known = assignment.watermark.snapshot()
            if known is not None:
                tp = TopicPartition(assignment.topic, assignment.partition)
                offsets[tp] = OffsetAndMetadata(known.position, self._fitting(assignment, known.encode()))
        return offsets

    def _fitting(self, assignment: Assignment, text: str) -> str:
        """The map, if it fits; in any case the assignment learns how much room it leaves."""
        filled = len(text) / max(self._limit, 1)
        crowded = filled > (_CALM_AT if assignment.crowded else _CROWDED_AT)
        if crowded != assignment.crowded:
            assignment.crowded = crowded
            log.info("offset_map_crowded" if crowded else "offset_map_calm", partition=repr(assignment), size=len(text))
        return text if len(text) <= self._limit else ""
