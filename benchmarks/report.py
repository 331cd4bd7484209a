"""Tables for people on the terminal and in Markdown, everything else in JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

RESULTS = Path(__file__).with_name("results")

_console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        lines = [f"### {self.title}", ""]
        lines.append(f"| {' | '.join(self.header)} |")
        lines.append(f"| --- |{' ---: |' * (len(self.header) - 1)}")
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        lines += ["", *self.notes]
        return "\n".join(lines).rstrip() + "\n"

    def show(self) -> None:
        table = RichTable(title=self.title, title_justify="left", caption="\n".join(self.notes), caption_justify="left")
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        _console.print(table)


def say(text: str) -> None:
    """Progress."""
    _console.print(text, soft_wrap=True, markup=False)


def publish(name: str, about: dict[str, str], tables: Sequence[Table], raw: object) -> None:
    """Show the tables, and write them with all that was measured to results/."""
    for table in tables:
        table.show()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}"
    facts = [f"- {key}: {value}" for key, value in about.items()]
    path.with_suffix(".md").write_text("\n".join([*facts, "", *(table.markdown() for table in tables)]))
    path.with_suffix(".json").write_text(json.dumps({"about": about, "runs": raw}, indent=1) + "\n")
    say(f"written to {path}.md and .json")
