"""What handling needs of the outside, as protocols: adapters implement them, tests bring doubles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.needs import Needs
from consumer.dispatch import Assignment
from consumer.handling.usage import Usage
from schemas.outbound import Access
from schemas.state import ReservationState


class Status(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    DYING = "dying"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stopped environment ended, as far as its runtime tells."""

    exit_code: int | None = None
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment as its runtime shows it, read back from labels and never from memory.

    `ending` may be known of a stopped one that `find` showed. `renew_at` is when `extend` has something to renew,
    even with the same end.
    `notes` are what `ensure` has to tell its user: sentences on what is not as asked for.
    """

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
    image_digest: str | None = None
    user: str | None = None
    user_id: str | None = None
    template: str | None = None
    cpu_millis: int | None = None
    memory_bytes: int | None = None
    expires_at: datetime | None = None
    renew_at: datetime | None = None
    ending: Ending | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a provisioning that takes long: `stage` is one word (`pulling`), `detail` a short text.

    What results say of the time comes from here: `pulling` begins fetching the image, `creating` and `starting` making
    the environment run, `waiting` the wait until it is ready. Any other stage is a remark, and ends none of these.

    `pulled` is how many seconds fetching the image took, where that is known only afterwards.
    """

    stage: str
    detail: str
    pulled: float = 0.0


Report = Callable[[Progress], None]


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What an examination found: `remedy` is what an operator can do about it, where there is something to be done."""

    level: Level
    subject: str
    message: str
    remedy: str | None = None


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

    async def prepare(self, spec: EnvironmentSpec, report: Report) -> None:
        """Have at hand what `ensure(spec)` will need, such as its image. Creates nothing that would have to be removed.

        Nobody has to call it; `ensure` does the same where it was not called, or in vain.
        """
        ...

    async def find(self, key: str) -> Environment | None:
        """The environment of this key, in whatever status, or None."""
        ...

    async def extend(self, key: str, until: datetime) -> bool:
        """Have the environment of this key show that its reservation ends at `until`, whatever it showed before.

        False where that cannot change, or there is no such environment.
        """
        ...

    async def remove(self, key: str, *, keep: bool = False) -> bool:
        """Remove everything of this key, half-made leftovers too, and return when it is gone.

        With `keep`, what belongs to the reservation and not to this one environment of it stays: its volume.

        True when there was something to remove. Removing nothing is a success.
        """
        ...

    async def list(self) -> list[Environment]:
        """All environments of this instance on this runtime."""
        ...

    async def usage(self, key: str) -> Usage | None:
        """What the environment of this key uses; None when it does not run, or is gone by now."""
        ...

    async def watch(self, ended: Callable[[str], None]) -> None:
        """Call `ended` with the reservation of each environment that stops, whoever stopped it, until cancelled.

        Raises nothing. What stops while the runtime does not answer may be missed; a runtime that cannot tell waits.
        """
        ...

    async def ping(self) -> None:
        """Return when the runtime answers; raises `Unavailable` otherwise."""
        ...

    async def diagnose(self, needs: Needs) -> Sequence[Finding]:
        """What an operator should know of the runtime, given what templates need of it. Raises nothing."""
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
