"""What came of the morning, counted from the outbound and the dead-letter topic alone."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from consumer.cli.demo.scenario import Expected


@dataclass(slots=True)
class Tally:
    """The latest result of each reservation, the ids of all results, and the dead letters."""

    latest: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    dead_letters: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add_outbound(self, kind: str, value: bytes) -> dict[str, Any] | None:
        """Take in one message of the outbound topic; returns the result if it is a new one."""
        if ".result." not in kind:
            return None
        body: dict[str, Any] = json.loads(value)
        new = body["id"] not in self.seen
        self.seen[body["id"]] = body
        self.latest[body["eventId"]] = body
        self.changed.set()
        return body if new else None

    def add_dead_letter(self) -> None:
        self.dead_letters += 1
        self.changed.set()

    def count(self, outcome: str) -> int:
        """How many different results there are of an outcome; repetitions carry the same id and count once."""
        return sum(body["outcome"] == outcome for body in self.seen.values())

    def as_expected(self) -> Expected:
        return Expected(
            provisioned=self.count("provisioned"),
            released=self.count("released"),
            interrupted=self._skipped("ended_while_starting"),
            expired=self.count("expired"),
            refused=self.count("failed"),
            skipped=self._skipped("already_ended"),
            updated=self.count("updated"),
            dead_lettered=self.dead_letters,
        )

    def _skipped(self, code: str) -> int:
        return sum(body["outcome"] == "skipped" and body["reason"]["code"] == code for body in self.seen.values())

    def one_open_page(self) -> dict[str, Any] | None:
        """A result whose environment runs and has a page to open."""
        for body in self.latest.values():
            if body["outcome"] == "provisioned" and body.get("access", {}).get("url"):
                return body
        return None
