"""What a handler says of its work when it returns. Handlers do not raise."""

from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Done(Generic[P]):
    """Finished, as soon as every publication was acknowledged.

    `dead_letters` is how many of them are dead letters: they are published when the budget for such allows.
    """

    publications: tuple[P, ...] = ()
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """Not yet: call again after `delay` seconds. Until then the lane is held, the slot is not.

    With `fresh` the next attempt counts as the first: what stood in the way was not this work's fault.
    """

    delay: float
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Continue(Generic[P]):
    """So far so good: call again, as if for the first time, as soon as every publication was acknowledged.

    For what must be known to last before the next step is taken. Which group it counts against is asked anew.
    """

    publications: tuple[P, ...]


@dataclass(frozen=True, slots=True)
class Outage:
    """What all work of `group` depends on does not answer. The work waits until it does, its attempts uncounted.

    Consecutive outages open the group's circuit breaker. None is the group that the work was run in.
    """

    group: str | None = None


Verdict = Done[P] | Continue[P] | Retry | Outage
