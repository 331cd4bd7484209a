"""Which results may follow each other for one reservation, as a small automaton, and who breaks the law.

It knows the results as anybody reads them from the outbound topic, and the moments at which members were killed: what
was told just before a kill may not be remembered afterwards, so that it is told again, or otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

_JUST_BEFORE = 5_000
"""Milliseconds before a kill in which what was told may not have been remembered, or committed, yet."""


class Standing(Enum):
    """How things stand with a reservation, as told."""

    IDLE = auto()
    RUNNING = auto()
    MOVING = auto()
    """It left one resource or owner, and is not there yet."""

    UNCERTAIN = auto()
    """It was running before a kill that may have come in the middle of taking its environment away."""

    BROKEN_OFF = auto()
    """A start was broken off; what was made of it is removed with the end that did it."""

    ENDED = auto()


_I, _R, _M, _U, _B, _E = Standing
_CHANGES_NOTHING = (
    "skipped:remembered",
    "skipped:too_early",
    "skipped:stale_update",
    "skipped:already_over",
    "updated",
)

LAW: dict[Standing, dict[str, Standing]] = {
    _I: {
        **dict.fromkeys(_CHANGES_NOTHING, _I),
        "provisioned": _R,
        "failed:start_timeout": _I,
        "skipped:ended_while_starting": _B,
        "skipped:nothing_to_release": _E,
    },
    _R: {
        **dict.fromkeys(_CHANGES_NOTHING, _R),
        "provisioned": _R,
        "released:moved": _M,
        "released:postponed": _I,
        "released:ended_by_update": _I,
        "expired:expired": _I,
        "released": _E,
        "skipped:ended_while_starting": _R,
    },
    _U: {
        **dict.fromkeys(_CHANGES_NOTHING, _U),
        "failed:lost": _I,
        "failed:start_timeout": _I,
    },
    _M: {
        "provisioned": _R,
        "failed:start_timeout": _I,
        "skipped:ended_while_starting": _B,
    },
    _B: {
        **dict.fromkeys(_CHANGES_NOTHING, _B),
        "skipped:ended_while_starting": _B,
        "released": _E,
    },
    _E: {
        "skipped:already_ended": _E,
        "skipped:nothing_to_release": _E,
        "released": _E,
    },
}
"""What may be told, and how things stand then. `released` without a reason is an END's or a DELETED's."""


@dataclass(frozen=True)
class Told:
    """One result: when it was published, and its outcome, with the reason's code if there is one."""

    at_ms: int
    what: str

    def __str__(self) -> str:
        return self.what


def what(result: dict[str, Any]) -> str:
    """A result's outcome and reason, as the law has them."""
    reason = result.get("reason")
    return f"{result['outcome']}:{reason['code']}" if reason else str(result["outcome"])


def follow(told: Iterable[Told], kills_ms: Sequence[float] = ()) -> frozenset[Standing]:
    """How things may stand after all of this; nothing when it is against the law."""
    passed: list[tuple[int, frozenset[Standing]]] = [(0, frozenset({_I}))]
    kills = sorted(kills_ms)
    for each in told:
        while kills and kills[0] < each.at_ms:
            passed.append((passed[-1][0], _after_kill(passed, kills.pop(0))))
        reached = (LAW[standing].get(each.what) for standing in passed[-1][1])
        passed.append((each.at_ms, frozenset(standing for standing in reached if standing is not None)))
    for kill in kills:
        passed.append((passed[-1][0], _after_kill(passed, kill)))
    return passed[-1][1]


def _after_kill(passed: Sequence[tuple[int, frozenset[Standing]]], kill: float) -> frozenset[Standing]:
    """What may be remembered: what was told last, or what held shortly before.

    What a timer began, and nobody was told of, is found by an end: as if a start had been broken off. And a release in
    the middle of which the kill came may have no reason any more after the restart: what it took away is missed later.
    """
    possible = set(passed[-1][1])
    for (at, _), (_, before) in zip(reversed(passed), list(reversed(passed))[1:], strict=False):
        if at < kill - _JUST_BEFORE:
            break
        possible |= before
    return frozenset(possible | ({_B} if _I in possible else set()) | ({_U} if _R in possible else set()))
