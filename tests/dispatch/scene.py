"""A dispatcher whose handler does what each job says, and a log of what it did when."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from consumer.dispatch import (
    Assignment,
    BreakerPolicy,
    Continue,
    DeadLetterBudget,
    Dispatcher,
    Done,
    Limits,
    Outage,
    Retry,
    Verdict,
    Work,
)

A_DAY = 86_400.0


@dataclass(frozen=True)
class Ack:
    """A publication that is acknowledged, or fails, after some seconds."""

    after: float = 0.0
    error: BaseException | None = None


Ending = Done[Ack] | Continue[Ack] | Retry | Outage | BaseException


@dataclass(frozen=True, eq=False)
class Job:
    """What the handler is to do: take some seconds (None: not suspend at all), then end so.

    `endings` are those of its attempts; the last one is that of all further attempts. `when_cancelled` replaces the
    cancellation, after `cleanup` seconds; None lets it through.
    """

    name: str
    takes: float | None = 0.0
    endings: tuple[Ending, ...] = (Done(),)
    cleanup: float = 0.0
    when_cancelled: Ending | None = None


class Scene:
    """Admits jobs and remembers what became of them."""

    def __init__(
        self,
        limits: Limits,
        group_of: Callable[[Work[Job]], str | None],
        breakers: BreakerPolicy,
        dead_letters: DeadLetterBudget,
    ) -> None:
        self.dispatcher: Dispatcher[Job, Ack] = Dispatcher(
            self._handle,
            self._publish,
            limits=limits,
            breakers=breakers,
            dead_letters=dead_letters,
            group_of=self._ask_group,
            on_crash=lambda work, error: self.crashes.append((work.item.name, error)),
        )
        self.log: list[tuple[float, str, str]] = []
        """(time, what happened, to which job): `start`, `end`, `cancelled`."""
        self.crashes: list[tuple[str, BaseException]] = []
        self.attempts: list[tuple[str, int, float]] = []
        """(job, number of the attempt, seconds since the first one) as told to the handler."""
        self.running: Counter[str | None] = Counter()
        self.most_running: Counter[str | None] = Counter()
        self._group_of = group_of
        self._groups: dict[Work[Job], str | None] = {}
        self._tries: Counter[Job] = Counter()
        self._ends: dict[Assignment, int] = {}

    def admit(self, to: Assignment, key: Hashable, *jobs: Job | str, size: int = 0) -> None:
        """Each job as a record of its own, at the partition's next offset."""
        for job in jobs:
            self.admit_record(to, (key, job), size=size)

    def admit_record(self, to: Assignment, *parts: tuple[Hashable, Job | str], size: int = 0) -> None:
        offset = self._ends.get(to, 0)
        self._ends[to] = offset + 1
        jobs = [(key, Job(job) if isinstance(job, str) else job) for key, job in parts]
        self.dispatcher.admit(to, offset, jobs, size)

    def happened(self, *what: str) -> list[str]:
        """The names of the jobs to which this happened, in order; of starts when not said."""
        return [name for _, event, name in self.log if event in (what or ("start",))]

    def times(self, what: str = "start") -> dict[str, float]:
        """When this last happened to each job."""
        return {name: time for time, event, name in self.log if event == what}

    async def settle(self) -> None:
        """Let enough time pass for everything to be done."""
        await asyncio.sleep(A_DAY)
        assert (self.dispatcher.outstanding, self.dispatcher.unfinished()) == (0, [])

    async def _handle(self, work: Work[Job]) -> Verdict[Ack]:
        job, group = work.item, self._groups.get(work)
        self._note("start", job)
        assert work.started_at is not None
        self.attempts.append((job.name, work.attempt, now() - work.started_at))
        for counted in {group, "all"}:
            self.running[counted] += 1
            self.most_running[counted] = max(self.most_running[counted], self.running[counted])
        ending = job.endings[min(self._tries[job], len(job.endings) - 1)]
        self._tries[job] += 1
        try:
            if job.takes is not None:
                await asyncio.sleep(job.takes)
            self._note("end", job)
        except asyncio.CancelledError:
            await asyncio.sleep(job.cleanup)
            self._note("cancelled", job)
            if job.when_cancelled is None:
                raise
            ending = job.when_cancelled
        finally:
            self.running.subtract({group, "all"})
        if isinstance(ending, BaseException):
            raise ending
        return ending

    def _ask_group(self, work: Work[Job]) -> str | None:
        self._groups[work] = None
        self._groups[work] = self._group_of(work)
        return self._groups[work]

    def _note(self, event: str, job: Job) -> None:
        self.log.append((now(), event, job.name))

    def _publish(self, assignment: Assignment, publications: Sequence[Ack]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        acked: asyncio.Future[None] = loop.create_future()
        slowest = max(publications, key=lambda ack: ack.after)
        loop.call_later(slowest.after, _resolve, acked, slowest.error)
        return acked


def _resolve(acked: "asyncio.Future[None]", error: BaseException | None) -> None:
    if isinstance(error, asyncio.CancelledError):
        acked.cancel()
    elif error is not None:
        acked.set_exception(error)
    else:
        acked.set_result(None)


@asynccontextmanager
async def scene(
    *,
    group_of: Callable[[Work[Job]], str | None] = lambda work: None,
    breakers: BreakerPolicy | None = None,
    dead_letters: DeadLetterBudget | None = None,
    **limits: Any,
) -> AsyncIterator[Scene]:
    stage = Scene(Limits(**limits), group_of, breakers or BreakerPolicy(), dead_letters or DeadLetterBudget())
    async with stage.dispatcher:
        yield stage


def now() -> float:
    return asyncio.get_running_loop().time()


def partition(number: int = 0, epoch: int = 1) -> Assignment:
    return Assignment("reservations", number, epoch)
