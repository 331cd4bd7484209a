"""What environments use: counters as a runtime shows them, and the rates that two looks make of them. No I/O here."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """What one environment has used up to `at`; None for what its runtime does not tell.

    Counters (`cpu_seconds`, bytes) grow from its start, and begin anew when it is started again. `cpu_seconds` counts
    all processors. `memory_bytes` leaves out page cache that the kernel can drop at once. `cores` is for a runtime that
    has no counter but says how many processors it kept busy lately.
    """

    at: datetime
    cpu_seconds: float | None
    memory_bytes: int
    memory_limit_bytes: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    processes: int | None = None
    restarts: int | None = None
    cores: float | None = None

    def cores_since(self, earlier: "Usage | None") -> float | None:
        """How many processors it kept busy since `earlier`; None when that cannot be said: 1.5 is 150 %."""
        if self.cpu_seconds is None:
            return self.cores
        if earlier is None or earlier.cpu_seconds is None:
            return None
        seconds = (self.at - earlier.at).total_seconds()
        used = self.cpu_seconds - earlier.cpu_seconds
        return used / seconds if seconds > 0 and used >= 0 else None
