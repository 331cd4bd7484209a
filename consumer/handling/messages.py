"""The notifications people read: what is ready, until when and how to get in; or what went wrong and what to do."""

from collections.abc import Sequence
from datetime import datetime

from schemas.outbound import NOTIFICATION_LIMIT, Access, NotificationType, Outcome, Result

_NAME_LIMIT = 60
_REASON_LIMIT = 410
"""Room for a whole refusal: its end says what to do. With the longest name it makes less than 500 characters."""


def message_for(result: Result, notes: Sequence[str] = ()) -> tuple[str, NotificationType]:
    """The text, at most 500 characters and never cut within an address, and the kind of notification it is.

    `notes` are told with what is ready, as far as there is room.
    """
    name = _clip(result.resource_name or f"Resource {result.resource_id}", _NAME_LIMIT)
    until = _clock(result.end)
    match result.outcome:
        case Outcome.PROVISIONED:
            opening = f"{name} is ready until {until}."
            text = " ".join(_fitting([opening, *_ways_in(result.access), *notes]))
        case Outcome.UPDATED:
            text = f"{name} now runs until {until}."
        case Outcome.RELEASED:
            text = f"{name} was released. {_why(result)}".strip()
        case Outcome.EXPIRED:
            text = f"The reservation of {name} ran out at {until}; its environment was removed."
        case Outcome.SKIPPED:
            text = f"{name} was not started. {_why(result)}".strip()
        case Outcome.FAILED:
            text = f"{name} could not be provided. {_why(result)}".strip()
    return text, _KIND[result.outcome]


_KIND = {
    Outcome.PROVISIONED: NotificationType.SUCCESS,
    Outcome.UPDATED: NotificationType.INFO,
    Outcome.RELEASED: NotificationType.INFO,
    Outcome.EXPIRED: NotificationType.INFO,
    Outcome.SKIPPED: NotificationType.WARNING,
    Outcome.FAILED: NotificationType.ERROR,
}


def _ways_in(access: Access | None) -> list[str]:
    """All ways in, the handiest first."""
    if access is None:
        return []
    ways = [way for way in (access.ssh, access.url) if way]
    named = {access.url and access.url.rpartition(":")[2].rstrip("/")} | {
        word for word in (access.ssh or "").split() if word.isdigit()
    }
    host = f"[{access.host}]" if ":" in access.host else access.host
    ways += [
        f"{host}:{port.host_port} (port {port.port}{'/udp' if port.protocol == 'udp' else ''})"
        for port in access.ports
        if str(port.host_port) not in named
    ]
    return ways


def _fitting(parts: Sequence[str]) -> list[str]:
    """As many whole parts as fit into a message, the first ones first."""
    fitting: list[str] = []
    room = NOTIFICATION_LIMIT + 1
    for part in parts:
        if len(part) < room:
            fitting.append(part)
            room -= len(part) + 1
    return fitting


def _why(result: Result) -> str:
    return _clip(result.reason.message, _REASON_LIMIT) if result.reason else ""


def _clip(text: str, limit: int) -> str:
    """`text` on one line, cut between words where that is possible: half an address leads nowhere."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    return (text[:limit].rpartition(" ")[0] or text[: limit - 1]) + "…"


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M} UTC on {moment:%-d %B}"
