"""What a handler says of its work when it returns. Handlers do not raise."""

from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Done(Generic[P]):
    """Finished, as soon as every publication was acknowledged."""

    publications: tuple[P, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """Not yet: call again after `delay` seconds. Until then the lane is held, the slot is not.

    With `fresh` the next attempt counts as the first: what stood in the way was not this work's fault.
    """

    delay: float
    fresh: bool = False


Verdict = Done[P] | Retry
