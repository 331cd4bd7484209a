"""What handling needs of the outside, as protocols: adapters implement them, tests bring doubles."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from consumer.catalog.environment import EnvironmentSpec
from consumer.dispatch import Assignment
from schemas.outbound import Access
from schemas.state import ReservationState


class Status(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    DYING = "dying"


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment as its runtime shows it, read back from labels and never from memory."""

    runtime: str
    name: str
    native_id: str
    key: str
    reservation_id: str
    resource_id: str
    spec_hash: str
    status: Status
    access: Access
    image: str | None = None
    user: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a provisioning that takes long: `stage` is one word (`pulling`), `detail` a short text."""

    stage: str
    detail: str


Report = Callable[[Progress], None]


class Provisioner(Protocol):
    """Creates, finds and removes environments on one runtime.

    All methods may raise `Transient`, `Permanent` or `Unavailable` (consumer.handling.errors) and nothing else,
    apart from `asyncio.CancelledError`. A cancelled `ensure` may leave something behind; `remove` finds it.
    """

    @property
    def runtime(self) -> str: ...

    async def ensure(self, spec: EnvironmentSpec, report: Report) -> Environment:
        """Get or create: return the running environment of `spec.key`, with its access read back.

        One with the same spec hash is adopted (started again if it stopped), a dying one is waited out, and one
        with another spec hash, or a foreign one under our name, raises `Permanent("conflict")`.
        """
        ...

    async def find(self, key: str) -> Environment | None:
        """The environment of this key, in whatever status, or None."""
        ...

    async def remove(self, key: str) -> bool:
        """Remove everything of this key, half-made leftovers too, and return when it is gone.

        True when there was something to remove. Removing nothing is a success.
        """
        ...

    async def list(self) -> list[Environment]:
        """All environments of this instance on this runtime."""
        ...

    async def ping(self) -> None:
        """Return when the runtime answers; raises `Unavailable` otherwise."""
        ...

    async def close(self) -> None:
        """Let go of connections. Environments stay."""
        ...


class StateStore(Protocol):
    """What is remembered of reservations: in memory, restored and written behind by the transport."""

    def get(self, assignment: Assignment, reservation_id: str) -> ReservationState | None:
        """The state of a reservation, or None when it was never seen."""
        ...

    def put(self, assignment: Assignment, state: ReservationState) -> None:
        """Remember `state`. Does nothing when the assignment was closed meanwhile."""
        ...
