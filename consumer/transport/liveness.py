"""How a consumer is doing, in one snapshot: what health endpoints, metrics and alarms are made of."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import structlog

from consumer.dispatch import Dispatcher
from consumer.transport.intake import Intake
from consumer.transport.options import AlarmLimits
from consumer.transport.outbox import Outbox

log = structlog.get_logger("moorage.liveness")

_TICK = 1.0
_REMEMBERED_LAGS = 10


@dataclass(frozen=True, slots=True)
class Liveness:
    """Ages and durations are seconds, 0 where there is nothing to be told."""

    poll_age: float
    """Since the client was last asked for records."""

    loop_lag: float
    """How late the event loop was at worst, of the last ten seconds."""

    record_age: float
    """Since the oldest record that is not done was taken in."""

    unstable_for: float
    """Since the group began to divide its partitions and did not finish."""

    commit_age: float
    """Since something became due to be committed and was not."""

    stalled_for: float
    """Since nothing is taken in and nothing was finished."""

    partitions: int
    restored: bool
    """Whether all partitions have their state."""

    outstanding: int
    parked: int
    held: int
    """Outcomes whose dead letters are beyond the budget."""

    unacknowledged: int
    completed: int
    """Records done since the start."""

    outages: tuple[str, ...]
    """Groups whose circuit breaker is not closed."""

    publishing_failure: str | None
    alarms: dict[str, str]
    """What needs an operator: the alarm's name, and what it is about."""

    @property
    def alive(self) -> bool:
        """Whether there is hope without a restart."""
        return not {"poll_stalled", "loop_blocked"} & self.alarms.keys()

    @property
    def ready(self) -> bool:
        """Whether records are taken in and handled. A backend that does not answer is none of that: others may."""
        return self.restored and not self.alarms.keys() - {"outage"}


class Monitor:
    """Watches one consumer: `run` keeps what a snapshot cannot know by itself, and logs alarms as they come and go."""

    def __init__(
        self, dispatcher: Dispatcher[Any, Any], intake: Intake[Any], outbox: Outbox, limits: AlarmLimits
    ) -> None:
        self._dispatcher = dispatcher
        self._intake = intake
        self._outbox = outbox
        self._limits = limits
        self._lags: deque[float] = deque([0.0], maxlen=_REMEMBERED_LAGS)
        self._completed = 0
        self._moved_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        loop, raised = asyncio.get_running_loop(), dict[str, str]()
        while True:
            due = loop.time() + _TICK
            await asyncio.sleep(_TICK)
            self._lags.append(loop.time() - due)
            if self._dispatcher.completed != self._completed or not self._intake.closed:
                self._completed, self._moved_at = self._dispatcher.completed, loop.time()
            alarms = self.snapshot().alarms
            for name in alarms.keys() - raised.keys():
                log.error("alarm_raised", alarm=name, why=alarms[name])
            for name in raised.keys() - alarms.keys():
                log.info("alarm_cleared", alarm=name)
            raised = alarms

    def snapshot(self) -> Liveness:
        dispatcher, intake, now = self._dispatcher, self._intake, asyncio.get_running_loop().time()
        owned, committer = intake.partitions, intake.committer
        assignments = owned.assignments if owned is not None else []
        measured = {
            "poll_age": now - intake.polled_at if intake.polled_at is not None else 0.0,
            "loop_lag": max(self._lags),
            "unstable_for": now - owned.unstable_since if owned and owned.unstable_since is not None else 0.0,
            "commit_age": committer.age(assignments) if committer is not None else 0.0,
            "stalled_for": now - self._moved_at if intake.closed else 0.0,
        }
        return Liveness(
            **measured,
            record_age=dispatcher.oldest(),
            partitions=len(assignments),
            restored=owned is not None and owned.restored,
            outstanding=dispatcher.outstanding,
            parked=dispatcher.parked,
            held=dispatcher.held,
            unacknowledged=dispatcher.unacknowledged,
            completed=dispatcher.completed,
            outages=dispatcher.outages,
            publishing_failure=self._outbox.failure,
            alarms=self._alarms(measured),
        )

    def _alarms(self, measured: dict[str, float]) -> dict[str, str]:
        names = {
            "poll_age": ("poll_stalled", "the client is not asked for records; the group will throw this member out"),
            "loop_lag": ("loop_blocked", "something blocks the event loop"),
            "unstable_for": ("group_unstable", "the group does not come to rest"),
            "commit_age": ("commits_stalled", "what is done cannot be committed"),
            "stalled_for": ("intake_stalled", "nothing is taken in and nothing is finished"),
        }
        alarms = {
            names[field][0]: f"{names[field][1]}, for {seconds:.1f} s"
            for field, seconds in measured.items()
            if seconds > getattr(self._limits, field)
        }
        if self._outbox.failure is not None:
            alarms["publishing_fails"] = self._outbox.failure
        if held := self._dispatcher.held:
            alarms["dead_letters_held"] = f"{held} outcomes wait because too much failed; nothing is taken in meanwhile"
        if outages := self._dispatcher.outages:
            alarms["outage"] = f"no answer from {', '.join(sorted(outages))}; what needs it waits"
        return alarms
