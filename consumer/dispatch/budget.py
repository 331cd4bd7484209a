"""How much may be in memory: counts of records and bytes, with hysteresis so that intake does not flutter."""

from dataclasses import dataclass

from consumer.dispatch.assignment import Assignment


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what is admitted and not done: queued, running, waiting to be published and parked alike."""

    max_records: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    max_records_per_partition: int = 5_000
    max_parked: int = 5_000
    """Records that wait for another attempt, of those above."""

    max_unacknowledged: int = 2_000
    """Outcomes on their way to the broker: no handler is started while there are more."""

    reopen_at: float = 0.7
    """A closed door opens again when usage fell to this fraction of its bound."""

    concurrency: int = 64
    """Handlers running at the same time, over all groups."""

    per_group: tuple[tuple[str, int], ...] = ()
    """Handlers running at the same time in a named group; an unnamed one is bounded by `concurrency` alone."""


DEFAULT_LIMITS = Limits()


class Budget:
    """Whether there is room for more."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.records = 0
        self.bytes = 0
        self.parked = 0
        self.open = True

    def park(self) -> None:
        self.parked += 1
        if self.parked >= self._limits.max_parked:
            self.open = False

    def unpark(self) -> bool:
        """Note that one parked record is no more; True when a door opened by it."""
        self.parked -= 1
        return self._reopen()

    def take(self, assignment: Assignment, size: int) -> None:
        limits = self._limits
        self.records += 1
        self.bytes += size
        assignment.outstanding += 1
        if self.records >= limits.max_records or self.bytes >= limits.max_bytes:
            self.open = False
        if assignment.outstanding >= limits.max_records_per_partition:
            assignment.open = False

    def give_back(self, assignment: Assignment, size: int) -> bool:
        """Return the room of one record; True when a door opened by it."""
        limits = self._limits
        self.records -= 1
        self.bytes -= size
        assignment.outstanding -= 1
        opened = self._reopen()
        if not assignment.open and assignment.outstanding <= limits.max_records_per_partition * limits.reopen_at:
            assignment.open = opened = True
        return opened

    def _reopen(self) -> bool:
        limits = self._limits
        if (
            self.open
            or self.records > limits.max_records * limits.reopen_at
            or self.bytes > limits.max_bytes * limits.reopen_at
            or self.parked > limits.max_parked * limits.reopen_at
        ):
            return False
        self.open = True
        return True
