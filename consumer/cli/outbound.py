"""Messages of the outbound topic on display: a live table, lines or JSON."""

from abc import abstractmethod
from types import TracebackType
from typing import Any, Protocol, Self

from pydantic import ValidationError
from pydantic_core import from_json
from rich.live import Live
from rich.table import Table
from rich.text import Text

from consumer.cli.console import out, print_json
from consumer.cli.text import cell, clock, exact, line, moment_of, place_json, readable
from consumer.transport.reader import Message
from schemas.cloudevents import NOTIFICATION_TYPE, PROGRESS_TYPE
from schemas.outbound import Access, Notification, Outcome, ProgressReport, Result

STYLES = {
    Outcome.PROVISIONED: "green",
    Outcome.UPDATED: "cyan",
    Outcome.RELEASED: "blue",
    Outcome.EXPIRED: "blue",
    Outcome.SKIPPED: "yellow",
    Outcome.FAILED: "red",
}

_KINDS: dict[str, type[Result | Notification | ProgressReport]] = {
    NOTIFICATION_TYPE: Notification,
    PROGRESS_TYPE: ProgressReport,
}
_ROWS = 500
_FRAME = 6
"""Lines of the terminal that the table's frame, its title and the shell's prompt take."""


class OutboundView(Protocol):
    """Shows messages; entered while it does."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    def show(self, message: Message) -> None: ...


def view_of(as_json: bool) -> OutboundView:
    if as_json:
        return JsonLines()
    return LiveTable() if out.is_terminal else Lines()


def body_of(message: Message) -> Result | Notification | ProgressReport | None:
    """The parsed body, or None for one that is not ours to read."""
    kind = _KINDS.get(message.header("ce_type") or "", Result)
    try:
        return kind.model_validate_json(message.value or b"")
    except ValidationError:
        return None


def ways_in(access: Access | None) -> str | None:
    """The handiest ways in: URL and ssh line, or else host and ports."""
    if access is None:
        return None
    ways = [way for way in (access.url, access.ssh) if way]
    ports = [f"{access.host}:{port.host_port}{'/udp' if port.protocol == 'udp' else ''}" for port in access.ports]
    return ", ".join(ways or ports) or None


class JsonLines(OutboundView):
    """Everything about a message; a body that is no JSON comes as `raw`."""

    def show(self, message: Message) -> None:
        headers = {name: readable(value) for name, value in message.headers}
        print_json(place_json(message) | {"key": exact(message.key), "headers": headers} | _body_json(message.value))


class Lines(OutboundView):
    """Time, reservation, outcome, user, resource, runtime, ways in and reason; or what a notification says."""

    def show(self, message: Message) -> None:
        body = body_of(message)
        when = clock(moment_of(message.timestamp_ms))
        if isinstance(body, Result):
            line(clock(body.occurred_at), body.event_id, body.outcome, *_facts(body))
        elif isinstance(body, Notification):
            line(when, body.event_id, "notification", body.user_id, f"{body.type}: {body.message}")
        elif isinstance(body, ProgressReport):
            line(clock(body.occurred_at), body.event_id, "progress", body.user_id, f"{body.stage}: {body.detail}")
        else:
            line(when, readable(message.key), message.header("ce_type") or "unknown", "not readable")


class LiveTable(OutboundView):
    """The latest result of each reservation, the newest on top, as many as the terminal has room for."""

    def __init__(self) -> None:
        self._rows: dict[str, Result] = {}
        self._messages = 0
        self._live = Live(get_renderable=self.table, console=out, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, message: Message) -> None:
        self._messages += 1
        body = body_of(message)
        if not isinstance(body, Result):
            return
        self._rows.pop(body.event_id, None)
        self._rows[body.event_id] = body
        if len(self._rows) > _ROWS:
            del self._rows[next(iter(self._rows))]

    def table(self) -> Table:
        """Called from rich's own thread."""
        results = list(self._rows.values())[::-1][: max(1, out.height - _FRAME)]
        table = Table(caption=f"{self._messages} messages, {len(self._rows)} reservations", caption_justify="left")
        for name in ("time", "reservation", "outcome", "user", "resource", "runtime", "access", "reason"):
            table.add_column(name, overflow="fold")
        for result in results:
            table.add_row(*_cells(result))
        return table


def _cells(result: Result) -> list[Text]:
    outcome = cell(result.outcome, STYLES.get(result.outcome, ""))
    when = cell(f"{result.occurred_at:%H:%M:%S}", "dim")
    return [when, cell(result.event_id), outcome, *(cell(fact) for fact in _facts(result))]


def _facts(result: Result) -> list[str | None]:
    reason = f"{result.reason.code}: {result.reason.message}" if result.reason else None
    return [
        result.username or result.user_id,
        result.resource_name or result.resource_id,
        result.runtime,
        ways_in(result.access),
        reason,
    ]


def _body_json(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"body": None}
    try:
        return {"body": from_json(value, allow_inf_nan=False)}
    except ValueError:
        return {"body": None, "raw": exact(value)}
