"""What is needed of every remembered reservation, as a header of its record in the state topic.

A member that takes partitions over reads a million states; it keeps their values as bytes and decodes the few that
events come for. Timers, quotas and retention need a little of all of them, and find it here.
"""

from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from schemas.state import Phase, ReservationState

STATE_HEADER = "moorage-state"
"""The header: a JSON array of the state's `version` and then the fields of `StateIndex`, in this order.

More may follow in later releases, at the end; what they mean otherwise is a new version.
"""

_CURRENT = b"[1,"


class StateIndex(NamedTuple):
    """The essence of a `ReservationState`. Times are Unix seconds.

    `environment` says whether one is remembered: it is there, or could not be removed. `versioned` says whether a
    version of the booking is known; `reason` is the code. The limits of the environment are 0 where they are not known,
    and `runtime` and `placed` None: the first releases did not note them.
    """

    phase: Phase
    start: float
    end: float
    changed_at: float
    resource_id: str
    user_id: str
    template: str | None
    environment: bool
    versioned: bool
    start_seen: bool
    reason: str | None
    cpu_millis: int = 0
    memory_bytes: int = 0
    runtime: str | None = None
    placed: str | None = None


_Amount = Annotated[int, Field(ge=0)]
_Name = str | None
_FIELDS = TypeAdapter(
    tuple[
        Phase, float, float, float, str, str, str | None, bool, bool, bool, str | None, _Amount, _Amount, _Name, _Name
    ],
    config=ConfigDict(allow_inf_nan=False),
)


_NOT_NOTED = tuple(StateIndex._field_defaults.values())
_FIRST = len(StateIndex._fields) - len(_NOT_NOTED)
_EARLIER = (_FIRST, StateIndex._fields.index("runtime"))
"""How many fields earlier releases wrote."""


def index_of(state: ReservationState) -> StateIndex:
    return StateIndex(
        state.phase,
        state.start.timestamp(),
        state.end.timestamp(),
        state.changed_at.timestamp(),
        state.resource.id,
        state.user.id,
        state.template,
        state.environment is not None,
        state.booking_version is not None,
        state.start_seen,
        state.reason.code if state.reason is not None else None,
        state.cpu_millis or 0,
        state.memory_bytes or 0,
        state.runtime,
        state.placed,
    )


def index_bytes(state: ReservationState) -> bytes:
    """The value of the header."""
    phase, *rest = index_of(state)
    return to_json([state.version, phase.value, *rest])


def is_current(header: bytes) -> bool:
    """Whether the header belongs to a state that this release can read; without a look at the rest of it."""
    return header.startswith(_CURRENT)


def parse_index(header: bytes) -> StateIndex:
    """The index in the value of a header that `is_current`. Raises `ValueError` for one that nobody of us wrote."""
    values = from_json(header)[1 : len(StateIndex._fields) + 1]
    if len(values) in _EARLIER:
        values += _NOT_NOTED[len(values) - _FIRST :]
    return StateIndex(*_FIELDS.validate_python(tuple(values)))


def version_of(value: bytes) -> int | None:
    """The version of the state that these bytes are, whoever wrote them; None when they are no state at all."""
    try:
        body = from_json(value)
    except ValueError:
        return None
    version = body.get("version", 1) if isinstance(body, dict) else None
    return version if isinstance(version, int) else None


def decode_state(value: bytes) -> ReservationState:
    """The state in the value of a record. Raises `ValueError` with a short reason."""
    try:
        return ReservationState.model_validate_json(value)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from error
