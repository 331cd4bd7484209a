"""What is remembered, joined with what runs: where the two do not fit together is what operators look for."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from consumer.cli.env.look import Memory, Sight, is_of
from consumer.cli.env.times import deadline
from consumer.cli.outbound import ways_in
from consumer.cli.text import clock
from consumer.handling.ports import Environment, Status
from schemas.outbound import Access
from schemas.state import Phase, ReservationState

COLUMNS = ("reservation", "user", "resource", "runtime", "environment", "phase", "status", "until", "access")


class Mark(StrEnum):
    """What does not fit together."""

    NOT_RUNNING = "not running"
    ORPHAN = "orphan"
    LEFT_OVER = "left over"
    UNREADABLE = "state unreadable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are wanted. A phase is asked for by name, `every` also brings what is over."""

    user: str | None = None
    resource: str | None = None
    runtime: str | None = None
    phase: Phase | None = None
    every: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A reservation: what is remembered of it, and its environment as the runtime shows it. Either may be missing."""

    state: ReservationState | None
    environment: Environment | None
    mark: Mark | None = None

    @property
    def reservation(self) -> str:
        return self.state.reservation_id if self.state else self.environment.reservation_id if self.environment else ""

    @property
    def user(self) -> str | None:
        if self.state:
            return self.state.user.name or self.state.user.id
        return self.environment.user if self.environment else None

    @property
    def resource(self) -> str | None:
        if self.state:
            return self.state.resource.name or self.state.resource.id
        return self.environment.resource_id if self.environment else None

    @property
    def runtime(self) -> str | None:
        return self.environment.runtime if self.environment else self.state.runtime if self.state else None

    @property
    def name(self) -> str | None:
        return self.environment.name if self.environment else self.state.environment if self.state else None

    @property
    def until(self) -> datetime | None:
        # An extended reservation has its new end in the state alone: labels cannot be changed.
        return self.state.end if self.state else self.environment.expires_at if self.environment else None

    @property
    def access(self) -> Access | None:
        return self.environment.access if self.environment else self.state.access if self.state else None

    @property
    def status(self) -> Mark | Status | None:
        return self.mark or (self.environment.status if self.environment else None)

    @property
    def failure(self) -> str | None:
        """Why a reservation that failed did, as a code."""
        state = self.state
        return state.reason.code if state and state.reason and state.phase is Phase.FAILED else None

    @property
    def runs(self) -> bool:
        """Whether something of it runs, as a runtime shows it or as is remembered."""
        return self.environment is not None or (self.state is not None and self.state.phase is Phase.ACTIVE)

    def is_wanted(self, wanted: Selection, now: datetime) -> bool:
        state, environment = self.state, self.environment
        users = {self.user, *((state.user.id,) if state else ()), *((environment.user,) if environment else ())}
        resources = {self.resource, *((state.resource.id,) if state else ())}
        return (
            (wanted.user is None or wanted.user in users)
            and (wanted.resource is None or wanted.resource in resources)
            and is_of(self.runtime, wanted.runtime)
            and (wanted.phase is None or (state is not None and state.phase is wanted.phase))
            and (wanted.every or wanted.phase is not None or self._matters(now))
        )

    def _matters(self, now: datetime) -> bool:
        """Something is there, should be there, or may come to be."""
        state = self.state
        if state is None or self.environment is not None or state.phase is Phase.ACTIVE:
            return True
        return state.phase is not Phase.RELEASED and state.end > now

    def fields(self, now: datetime) -> list[str | None]:
        return [
            self.reservation,
            self.user,
            self.resource,
            self.runtime,
            self.name,
            self.state.phase if self.state else None,
            self.status or self.failure,
            self._deadline(now),
            ways_in(self.access),
        ]

    def _deadline(self, now: datetime) -> str | None:
        if self.until is None:
            return None
        if self.state is not None and self.state.phase is Phase.RELEASED and not self.runs:
            return clock(self.until)  # of what has ended, no time is left
        return deadline(self.until, now, runs=self.runs)

    def as_json(self, now: datetime) -> dict[str, Any]:
        state, environment = self.state, self.environment
        return {
            "reservation": self.reservation,
            "user": self.user,
            "userId": state.user.id if state else None,
            "resource": self.resource,
            "resourceId": state.resource.id if state else environment.resource_id if environment else None,
            "runtime": self.runtime,
            "environment": self.name,
            "phase": state.phase if state else None,
            "status": environment.status if environment else None,
            "mark": self.mark,
            "reason": state.reason.code if state and state.reason else None,
            "until": self.until.isoformat() if self.until else None,
            "remainingSeconds": int((self.until - now).total_seconds()) if self.until else None,
            "overdue": self.runs and self.until is not None and self.until <= now,
            "image": environment.image if environment else state.image if state else None,
            "access": self.access.model_dump(mode="json", by_alias=True, exclude_none=True) if self.access else None,
        }


def rows_of(memory: Memory | None, sight: Sight | None, now: datetime) -> list[Row]:
    """All there is, what ends next on top. None for what could not be, or was not, looked at."""
    states = {each: remembered.state for each, remembered in memory.states.items()} if memory else {}
    rows = [_of_environment(environment, states, memory, now) for environment in (sight.environments if sight else ())]
    shown = {(row.reservation, row.runtime) for row in rows}
    somewhere = {row.reservation for row in rows}
    for state in states.values():
        # What should run here and is seen elsewhere gets a row for each.
        there = (state.reservation_id, state.runtime) in shown
        if not there and (state.reservation_id not in somewhere or (state.phase is Phase.ACTIVE and state.runtime)):
            rows.append(Row(state, None, _missing(state, sight)))
    return sorted(rows, key=lambda row: (row.until is None, row.until or now, row.reservation, row.runtime or ""))


def _of_environment(
    environment: Environment, states: dict[str, ReservationState], memory: Memory | None, now: datetime
) -> Row:
    state = states.get(environment.reservation_id)
    if memory is None:
        return Row(None, environment)
    if environment.reservation_id in memory.unreadable:
        return Row(state, environment, Mark.UNREADABLE)
    if environment.status is Status.STARTING:  # what is being made is remembered once it is there
        return Row(state, environment)
    if state is None:
        return Row(None, environment, Mark.ORPHAN)
    match state.phase:
        case Phase.ACTIVE:
            belongs = state.runtime in (None, environment.runtime)
        case Phase.PENDING:
            belongs = state.end > now  # on its way
        case _:
            belongs = False
    return Row(state, environment, None if belongs else Mark.LEFT_OVER)


def _missing(state: ReservationState, sight: Sight | None) -> Mark | None:
    """What it means that no runtime showed an environment of this reservation."""
    if sight is None or state.phase is not Phase.ACTIVE:
        return None
    asked = {state.runtime} if state.runtime else sight.asked
    if not asked <= sight.asked - sight.silent:
        return Mark.UNKNOWN
    return Mark.NOT_RUNNING
