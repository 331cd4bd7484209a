"""A member's timers alone, without Kafka: armed with a running reservation for each, and rung through.

Writes to its log, for each step, what it took: seconds, processor time, memory and the longest turn of the event loop.
"""

import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contestants.harness import Task, run, say
from benchmarks.events import running
from consumer.catalog.quotas import QuotaRules
from consumer.dispatch import Assignment
from consumer.handling.agenda import Agenda
from consumer.handling.quotas import Ledger
from consumer.reservations import Policy
from consumer.transport.remembered import Remembered
from schemas.state import ReservationState
from schemas.state_index import STATE_HEADER, StateIndex

_BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
_TICKS = 100


class _States:
    """Partitions as they are after restoring, number by number."""

    def __init__(self, records: int, partitions: int) -> None:
        self._partitions = [Remembered(partition) for partition in range(partitions)]
        for number, (key, value, index) in enumerate(running(records, _BEGIN, timedelta(hours=10))):
            self._partitions[number % partitions].load(0, key, value, [(STATE_HEADER, index)])

    def index(self, reservation_id: str) -> StateIndex | None:
        return self._partitions[int(reservation_id) % len(self._partitions)].index(reservation_id)

    def indexes(self, partition: int) -> Iterator[tuple[str, StateIndex]]:
        states = self._partitions[partition]
        for reservation_id in list(states):
            if (index := states.index(reservation_id)) is not None:
                yield reservation_id, index

    def partition_of(self, reservation_id: str) -> int | None:
        return int(reservation_id) % len(self._partitions)

    def get(self, assignment: Assignment, reservation_id: str) -> ReservationState | None:
        return self._partitions[assignment.partition].get(reservation_id)

    def put(self, assignment: Assignment, state: ReservationState) -> None:
        self._partitions[assignment.partition].put(state)

    async def restore(self, assignments: Iterable[Assignment]) -> None:
        """They are there."""

    def forget(self, assignments: Iterable[Assignment]) -> None:
        """Nobody asks for that here."""


async def ring(task: Task, stop: asyncio.Event) -> None:
    now, rung = _BEGIN - timedelta(days=1), 0
    agenda = Agenda(_States(task.records, task.partitions), Policy(), Ledger(QuotaRules()), lambda: now)

    def review(assignment: Assignment, reservation_id: str) -> bool:
        nonlocal rung
        rung += 1
        return True

    async def arm() -> None:
        await agenda.restore([Assignment("reservation-events", partition) for partition in range(task.partitions)])

    async def tick() -> None:
        for _ in range(_TICKS):
            agenda.ring(review)
            await asyncio.sleep(0)

    async def ring_all() -> None:
        nonlocal now
        now = _BEGIN + timedelta(days=1)
        while agenda.ring(review):  # noqa: ASYNC110 - as the service does
            await asyncio.sleep(0)

    steps = [
        await _measured("armed, one by one", task.records, arm),
        await _measured("looked at, nothing is due", _TICKS, tick),
        await _measured("rung and armed anew", task.records, ring_all),
    ]
    assert rung == task.records, f"{rung} rang of {task.records}"
    Path(task.log).write_text(json.dumps(steps))  # noqa: ASYNC240 - nothing else goes on
    say("HANDLED")
    await stop.wait()


async def _measured(name: str, count: int, step: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    longest = 0.0

    async def look() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()  # what others do on this machine is no turn of ours
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    before = _resident()
    looking = asyncio.create_task(look())
    began, used = time.perf_counter(), time.process_time()
    await step()
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    looking.cancel()
    return {
        "step": name,
        "count": count,
        "seconds": seconds,
        "cpu": cpu,
        "longest": longest,
        "grown": _resident() - before,
    }


def _resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    run(ring)
