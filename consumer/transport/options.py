"""How a group is joined, consumed in and left. Times are seconds."""

from dataclasses import dataclass, field

from consumer.dispatch import BreakerPolicy, DeadLetterBudget, Limits


@dataclass(frozen=True, slots=True)
class AlarmLimits:
    """What each figure of `Liveness` may reach before it is an alarm."""

    poll_age: float = 30.0
    loop_lag: float = 2.0
    unstable_for: float = 120.0
    commit_age: float = 60.0
    stalled_for: float = 120.0


@dataclass(frozen=True, slots=True)
class Options:
    """Everything about consuming that is not the handler."""

    group: str = "moorage"
    group_instance: str | None = None
    """Static membership: a restart within the session timeout keeps the partitions without a rebalance."""

    limits: Limits = field(default_factory=Limits)
    breakers: BreakerPolicy = field(default_factory=BreakerPolicy)
    dead_letters: DeadLetterBudget = field(default_factory=DeadLetterBudget)
    alarms: AlarmLimits = field(default_factory=AlarmLimits)
    poll_records: int = 1000
    poll_wait: float = 0.2
    fetch_wait: float = 0.1
    commit_interval: float = 1.0
    commit_timeout: float = 5.0
    session_timeout: float = 30.0
    drain_timeout: float = 25.0
    """How long running work may take to finish when partitions are revoked or the consumer stops."""

    flush_timeout: float = 5.0
    """How long publishing may take at the end."""

    @property
    def rebalance_timeout(self) -> float:
        """The group waits this long for members to let go: longer than draining and committing take."""
        return max(self.session_timeout, self.drain_timeout + 2 * self.commit_timeout + 10.0)
