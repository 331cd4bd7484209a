"""`python -m tests.support.double`: Moorage with a runtime made of nothing, which does as a folder says.

MOORAGE_DOUBLE names the folder, MOORAGE_DOUBLE_SECONDS how long each step of a call takes, MOORAGE_DOUBLE_SLOW how long
one in fifty takes, MOORAGE_DOUBLE_SESSION after how many seconds the group misses a member that was killed (a setting
that Moorage itself does not have). Each reservation that a provisioning has arrived for is a file in `arrived`, with a
line for each call. Those named in `held` are not finished as long as their file is there.
"""

import asyncio
import os
import random
from functools import partial
from pathlib import Path
from urllib.parse import quote

import typer

from consumer import app as composition
from consumer.app import Moorage
from consumer.catalog.templates import Catalog, Defaults
from consumer.cli.console import Exit, run_async
from consumer.cli.run import serve
from consumer.ops.logging import configure_logging
from consumer.provisioners.memory import Call, MemoryEngine, MemoryProvisioner
from consumer.settings import Settings

_LOOK_AGAIN = 0.02
_ONE_IN = 50


class Stage:
    """The folder, from both sides: tests hold reservations and see who arrived, the runtime obeys."""

    def __init__(self, folder: Path, seconds: float = 0.0, slow: float = 0.0) -> None:
        self.folder = folder
        self.seconds = seconds
        self.slow = slow
        self._held = folder / "held"
        self._arrived = folder / "arrived"
        self._seen: set[int] = set()
        for each in (self._held, self._arrived):
            each.mkdir(parents=True, exist_ok=True)

    @property
    def settings(self) -> dict[str, str]:
        return {"MOORAGE_DOUBLE": str(self.folder)}

    def hold(self, *reservations: str) -> None:
        for reservation in reservations:
            _file(self._held, reservation).touch()

    def let_go(self, *reservations: str) -> None:
        for reservation in reservations:
            _file(self._held, reservation).unlink()

    def arrivals(self, reservation: str) -> int:
        """How often a provisioning of this reservation was begun."""
        file = _file(self._arrived, reservation)
        return len(file.read_text().splitlines()) if file.exists() else 0

    async def latency(self, call: Call) -> None:
        """For a MemoryEngine, which every call goes through several times."""
        is_slow = self.slow and random.randrange(_ONE_IN) == 0  # noqa: S311 - not a secret
        await asyncio.sleep(self.slow if is_slow else self.seconds)
        if call.operation != "ensure" or call.spec is None:
            return
        reservation = call.spec.reservation_id
        if call.number not in self._seen:
            self._seen.add(call.number)
            with _file(self._arrived, reservation).open("a") as arrived:
                arrived.write(f"{os.getpid()}\n")
        while _file(self._held, reservation).exists():  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(_LOOK_AGAIN)


def _file(folder: Path, reservation: str) -> Path:
    return folder / quote(reservation, safe="")


def main() -> None:
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    seconds, slow = (float(os.environ.get(f"MOORAGE_DOUBLE_{each}", "0")) for each in ("SECONDS", "SLOW"))
    stage = Stage(Path(os.environ["MOORAGE_DOUBLE"]), seconds, slow)
    if session := os.environ.get("MOORAGE_DOUBLE_SESSION"):
        composition.Options = partial(composition.Options, session_timeout=float(session))  # type: ignore
    engine = MemoryEngine(latency=stage.latency)
    service = Moorage(
        settings,
        catalog=Catalog.from_defaults(Defaults(runtime="docker"), instance=settings.instance),
        provisioners={"docker": MemoryProvisioner(engine, instance=settings.instance, runtime="docker")},
    )
    if not run_async(serve(service)):
        raise typer.Exit(Exit.UNFINISHED)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
