"""Moorage as a process of its own, as an operator runs it: settings in the environment, signals, an exit code."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.kafka import Names
from tests.support.waiting import eventually

_ROOT = Path(__file__).parents[2]


def settings_for(names: Names, bootstrap_servers: str, **more: str) -> dict[str, str]:
    """Environment variables for an installation with these names, set for speed."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "MOORAGE_TOPICS": names.inbound,
        "MOORAGE_OUTBOUND_TOPIC": names.outbound,
        "MOORAGE_STATE_TOPIC": names.state,
        "MOORAGE_DEAD_LETTER_TOPIC": names.dead_letters,
        "MOORAGE_GROUP": names.group,
        "MOORAGE_INSTANCE": names.instance,
        "MOORAGE_COMMIT_INTERVAL": "0.2",
        "MOORAGE_RETRY_MAX_DELAY": "0.5",
    } | more


class Service:
    """One process. What it logs is kept, and told when a test fails."""

    def __init__(self, settings: Mapping[str, str], folder: Path, name: str = "moorage") -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._offset = self.log.stat().st_size if self.log.exists() else 0
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("MOORAGE_", "KAFKA_"))}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                self.command(),
                env={**ours, "PYTHONUNBUFFERED": "1", **settings},
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def command(self) -> list[str]:
        return [sys.executable, "-m", "consumer", "run"]

    def output(self) -> str:
        """What this process wrote; earlier ones of the same name may have written before it."""
        with self.log.open("rb") as log:
            log.seek(self._offset)
            return log.read().decode(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The logged events of this name."""
        found = []
        for line in self.output().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and event.get("event") == name:
                    found.append(event)
        return found

    def wait_for(self, name: str, *, times: int = 1, seconds: float = 60.0) -> dict[str, Any]:
        """The event of this name that was logged as the `times`-th."""

        def look() -> list[dict[str, Any]]:
            found = self.events(name)
            if len(found) < times and self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
            return found[times - 1 :]

        try:
            return eventually(look, what=f"{self.name} logs {name} ({times})", seconds=seconds)[0]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def wait_until_consuming(self) -> None:
        self.wait_for("state_restored")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, seconds: float = 50.0) -> int:
        """How it ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds:g} s:\n{self.tail()}") from None

    def stop(self, seconds: float = 50.0) -> int:
        """Ask it to stop in good order; its exit code."""
        self.terminate()
        return self.exit_code(seconds)

    def kill(self) -> None:
        """Kill -9: no goodbye."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.output().splitlines()[-lines:])


class DoubleService(Service):
    """The same service with an in-memory runtime that does as a folder says (tests.support.double)."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.double"]


class ImpatientService(Service):
    """The same service in a group that misses it MOORAGE_SESSION seconds after a kill (tests.support.impatient)."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.impatient"]


@contextmanager
def running(
    settings: Mapping[str, str], folder: Path, *, name: str = "moorage", kind: type[Service] = Service
) -> Iterator[Service]:
    """A process that consumes, and that is gone afterwards whatever happened."""
    service = kind(settings, folder, name)
    try:
        service.wait_until_consuming()
        yield service
    finally:
        service.kill()
