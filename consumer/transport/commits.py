"""Committing: the watermark and nothing else, bounded in time."""

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from consumer.dispatch import Assignment

log = structlog.get_logger("moorage.commits")


class Committer:
    """Commits how far assignments have come, where that changed since the last time."""

    def __init__(self, consumer: AIOKafkaConsumer, *, timeout: float) -> None:
        self._consumer = consumer
        self._timeout = timeout
        self._committed: dict[Assignment, int] = {}

    async def commit(self, assignments: Iterable[Assignment]) -> bool:
        """Commit the watermarks of `assignments`; False when the broker did not confirm in time.

        A failure loses nothing: the offsets stay due, and at worst their records are handled again.
        """
        due = {
            assignment: position
            for assignment in assignments
            if (position := assignment.watermark.position) is not None and self._committed.get(assignment) != position
        }
        if not due:
            return True
        offsets = {
            TopicPartition(assignment.topic, assignment.partition): OffsetAndMetadata(position, "")
            for assignment, position in due.items()
        }
        try:
            # aiokafka retries for as long as the error is retriable, which can be for ever.
            async with asyncio.timeout(self._timeout):
                await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("commit_superseded", why=f"{type(error).__name__}: the group has moved on")
            return False
        except (KafkaError, TimeoutError) as error:
            log.warning("commit_failed", why=f"{type(error).__name__}: {error}", partitions=len(offsets))
            return False
        self._committed.update(due)
        return True

    def forget(self, assignments: Iterable[Assignment]) -> None:
        for assignment in assignments:
            self._committed.pop(assignment, None)
