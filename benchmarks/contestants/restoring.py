"""What a member of Moorage does before it polls the partitions it was assigned: restore their state, and keep it."""

import asyncio

import structlog

from benchmarks.contestants.harness import Task, run, say
from consumer.catalog.quotas import QuotaRules
from consumer.dispatch import Assignment
from consumer.handling.agenda import Agenda
from consumer.handling.clock import utc_now
from consumer.handling.quotas import Ledger
from consumer.reservations import Policy
from consumer.transport.connection import Connection
from consumer.transport.states import StateTopic


async def restore(task: Task, stop: asyncio.Event) -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # standard output is for the runner
    states = StateTopic(Connection(task.bootstrap), task.topic)
    # What runs has a timer, which is armed before the partition is polled.
    memory = Agenda(states, Policy(), Ledger(QuotaRules()), utc_now) if task.settings.get("timers") else states
    await memory.restore([Assignment("reservation-events", partition) for partition in range(task.partitions)])
    say("HANDLED")
    await stop.wait()
    restored = sum(1 for partition in range(task.partitions) for _ in states.indexes(partition))
    assert restored == task.records, f"{restored} states of {task.records}"


if __name__ == "__main__":
    run(restore)
