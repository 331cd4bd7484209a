"""The notifications people read: what is ready, until when and how to get in; or what went wrong and what to do."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo

from consumer.catalog.messages import USUAL, Message, Placeholder, Value
from consumer.handling.advice import advice_for
from schemas.events import Resource
from schemas.outbound import Access, AccessPort, NotificationType, Outcome, Result

Texts = Callable[[str | None, Resource], Mapping[Outcome, Message]]
"""The texts for environments of a template (None: not known which) on a resource."""

_BETWEEN_WAYS = " · "
"""Between addresses, with spaces: what touches one is copied with it."""

_WITHIN_CLUSTER = ".svc"
"""The end of names that only a cluster's own DNS knows."""

_KIND = {
    Outcome.PROVISIONED: NotificationType.SUCCESS,
    Outcome.UPDATED: NotificationType.INFO,
    Outcome.RELEASED: NotificationType.INFO,
    Outcome.EXPIRED: NotificationType.INFO,
    Outcome.SKIPPED: NotificationType.WARNING,
    Outcome.FAILED: NotificationType.ERROR,
}


class Messenger:
    """Words results for people, in an operator's texts and time zone."""

    def __init__(self, texts: Texts = lambda template, resource: USUAL, zone: tzinfo = UTC) -> None:
        self._texts = texts
        self._zone = zone

    def message_for(self, result: Result) -> tuple[str, NotificationType]:
        """The text, at most 500 characters and never cut within an address, and the kind of notification it is.

        Its notes are told with what is ready, as far as there is room.
        """
        resource = Resource(result.resource_id, result.resource_name, result.resource_type)
        message = self._texts(result.template, resource)[result.outcome]
        return message.filled(self._values(result)), _KIND[result.outcome]

    def _values(self, result: Result) -> Mapping[Placeholder, Value]:
        start, until = (_clock(moment, result.occurred_at, self._zone) for moment in (result.start, result.end))
        access = result.access
        return {
            Placeholder.RESOURCE: _name(result.resource_name, f"Resource {result.resource_id}"),
            Placeholder.USER: _name(result.username, result.user_id),
            Placeholder.RESERVATION: _name(result.event_id, ""),
            Placeholder.START: Value((start,)),
            Placeholder.UNTIL: Value((until,)),
            Placeholder.ACCESS: Value(tuple(_ways_in(access)), _BETWEEN_WAYS),
            Placeholder.SSH: Value((access.ssh,) if access and access.ssh else ()),
            Placeholder.URL: Value((access.url,) if access and access.url else ()),
            Placeholder.PORTS: Value(
                tuple(f"{address} ({port})" for port, address in _other_ports(access)), _BETWEEN_WAYS
            ),
            Placeholder.REASON: Value((_why(result),), prose=True),
            Placeholder.ADVICE: Value((advice_for(result, start),)),
            Placeholder.NOTES: Value(result.notes),
        }


def _name(text: str | None, otherwise: str) -> Value:
    """A name that somebody typed, unless there is nothing to see of it."""
    typed = Value((text or "",), prose=True)
    return typed if typed.within(len(text or "")) else Value((otherwise,), prose=True)


def _why(result: Result) -> str:
    if result.reason is not None:
        return result.reason.message
    return "The reservation has ended." if result.outcome is Outcome.RELEASED else ""


def _ways_in(access: Access | None) -> list[str]:
    """All ways in, the handiest first."""
    ways = []
    if access is not None and access.ssh:
        ways.append(f"Log in: {access.ssh}")
    if access is not None and access.url:
        ways.append(f"In a browser: {access.url}")
    ways += [f"Port {port}: {address}" for port, address in _other_ports(access)]
    return ways + [f"With kubectl: {line}" for line in _from_outside(access)]


def _from_outside(access: Access | None) -> tuple[str, ...]:
    """The line for who is not within the cluster that the address is of, or has a login to it."""
    if access is None or access.kubectl is None:
        return ()
    only_within = access.host.endswith(_WITHIN_CLUSTER) and access.host in (access.url or access.host)
    if not (only_within or access.kubectl.kubeconfig):
        return ()
    return (*access.kubectl.port_forward, access.kubectl.exec)[:1]


def _other_ports(access: Access | None) -> list[tuple[str, str]]:
    """The ports that neither the ssh line nor the URL leads to, and where they answer."""
    if access is None:
        return []
    named = {access.url and access.url.rpartition(":")[2].rstrip("/")} | {
        word for word in (access.ssh or "").split() if word.isdigit()
    }
    host = f"[{access.host}]" if ":" in access.host else access.host
    return [(_number(port), f"{host}:{port.host_port}") for port in access.ports if str(port.host_port) not in named]


def _number(port: AccessPort) -> str:
    return f"{port.port}/udp" if port.protocol == "udp" else str(port.port)


def _clock(moment: datetime, now: datetime, zone: tzinfo) -> str:
    """`10:00 CEST`, with the day when that is not today, and the year when it is another one."""
    moment, now = moment.astimezone(zone), now.astimezone(zone)
    name = moment.tzname() or ""
    text = f"{moment:%H:%M} {'UTC' if name[:1] in ('+', '-') else ''}{name}"
    if moment.date() != now.date():
        text += f" on {moment.day} {moment:%B}"
    return text if moment.year == now.year else f"{text} {moment.year}"
