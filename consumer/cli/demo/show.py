"""How the demonstration looks: a live table on a terminal, plain lines elsewhere."""

from collections import Counter
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from consumer.cli.demo.scenario import Expected
from consumer.cli.demo.tally import Tally

_COLOURS = {
    "provisioned": "green",
    "released": "blue",
    "expired": "magenta",
    "failed": "red",
    "skipped": "yellow",
    "updated": "cyan",
}


class Show:
    """Tells the audience what happens, as it happens."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console = console
        self._tally = tally
        self._live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def result(self, body: dict[str, Any]) -> None:
        """One new result."""
        if self._live is not None:
            self._live.update(self._table())
        outcome = body["outcome"]
        more = (body.get("access") or {}).get("url") or (body.get("reason") or {}).get("message") or ""
        who = f"{body.get('username') or body['userId']}, {body.get('resourceName') or body['resourceId']}"
        colour = _COLOURS.get(outcome, "white")
        self.say(f"  [{colour}]{outcome:<11}[/] {escape(body['eventId']):>4}  {escape(who):<28} {escape(more)}")

    def _table(self) -> Table:
        counts = Counter(body["outcome"] for body in self._tally.latest.values())
        table = Table(title="The lab right now", title_justify="left")
        for outcome, colour in _COLOURS.items():
            table.add_column(outcome, style=colour, justify="right")
        table.add_row(*(str(counts[outcome]) for outcome in _COLOURS))
        return table


def summary(counted: Expected, expected: Expected, seconds: float, left: int) -> Table:
    """The closing table: what happened beside what had to."""
    table = Table(title="Summary", title_justify="left")
    table.add_column("")
    table.add_column("counted", justify="right")
    table.add_column("expected", justify="right")
    for name in Expected.__slots__:
        have, want = getattr(counted, name), getattr(expected, name)
        table.add_row(name.replace("_", "-"), f"[{'green' if have == want else 'red'}]{have}[/]", str(want))
    table.add_row("left running", f"[{'red' if left else 'green'}]{left}[/]", "0")
    table.add_row("seconds", f"{seconds:.1f}", "< 60")
    return table
