"""The notifications people read: what is ready, until when and how to get in; or what went wrong and what to do."""

from datetime import datetime

from schemas.outbound import NOTIFICATION_LIMIT, Access, NotificationType, Outcome, Result

_NAME_LIMIT = 60
_REASON_LIMIT = 240


def message_for(result: Result) -> tuple[str, NotificationType]:
    """The text, at most 500 characters and never cut within an address, and the kind of notification it is."""
    name = _clip(result.resource_name or f"Resource {result.resource_id}", _NAME_LIMIT)
    until = _clock(result.end)
    match result.outcome:
        case Outcome.PROVISIONED:
            opening = f"{name} is ready until {until}."
            return " ".join([opening, *_ways_in(result.access, NOTIFICATION_LIMIT - len(opening))]), _KIND[
                result.outcome
            ]
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
    return text[:NOTIFICATION_LIMIT], _KIND[result.outcome]


_KIND = {
    Outcome.PROVISIONED: NotificationType.SUCCESS,
    Outcome.UPDATED: NotificationType.INFO,
    Outcome.RELEASED: NotificationType.INFO,
    Outcome.EXPIRED: NotificationType.INFO,
    Outcome.SKIPPED: NotificationType.WARNING,
    Outcome.FAILED: NotificationType.ERROR,
}


def _ways_in(access: Access | None, room: int) -> list[str]:
    """As many whole ways in as fit into `room` characters, the handiest first."""
    if access is None:
        return []
    ways = [way for way in (access.ssh, access.url) if way]
    named = {access.url and access.url.rpartition(":")[2].rstrip("/")} | {
        word for word in (access.ssh or "").split() if word.isdigit()
    }
    ways += [
        f"{access.host}:{port.host_port} (port {port.port}{'/udp' if port.protocol == 'udp' else ''})"
        for port in access.ports
        if str(port.host_port) not in named
    ]
    fitting: list[str] = []
    for way in ways:
        room -= len(way) + 1
        if room < 0:
            break
        fitting.append(way)
    return fitting


def _why(result: Result) -> str:
    return _clip(result.reason.message, _REASON_LIMIT) if result.reason else ""


def _clip(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M} UTC on {moment:%-d %B}"
