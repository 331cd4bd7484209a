"""What environments use: rates need two looks, what ended in between is left out, a silent runtime is told."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.catalog.identity import reservation_key
from consumer.cli.console import Exit
from consumer.handling.errors import Unavailable
from consumer.handling.usage import Usage
from consumer.provisioners.memory import Call, MemoryEngine, MemoryProvisioner
from schemas.events import User
from tests.cli.conftest import Invoke, Runtimes
from tests.cli.environments import run

MEBIBYTE = 1024 * 1024
START = datetime(2026, 3, 2, 8, tzinfo=UTC)
USED = Usage(START, 10.0, 64 * MEBIBYTE, 512 * MEBIBYTE, 2048, 100, processes=3, restarts=0)


class Busy(MemoryEngine):
    """Time and use go on with each look: half a processor for `1841`, one and a half for `1842`."""

    def __init__(self) -> None:
        super().__init__(self._look)
        self.vanishing: set[str] = set()

    async def _look(self, call: Call) -> None:
        if call.operation != "usage" or call.key is None:
            return
        for number, cores in (("1841", 0.5), ("1842", 1.5)):
            if call.key == reservation_key("default", number):
                seconds = 2.0 * call.number
                changes: dict[str, Any] = {"at": START + timedelta(seconds=seconds), "cpu_seconds": seconds * cores}
                self.usage[call.key] = replace(USED, **changes)
        if call.key in self.vanishing:
            self.stop(call.key)


@pytest.fixture
def engine(runtimes: Runtimes) -> Busy:
    engine = Busy()
    runtimes["memory"] = MemoryProvisioner(engine)
    return engine


def test_a_line_tells_of_each_environment_and_the_busiest_comes_first(
    invoke: Invoke, runtimes: Runtimes, engine: Busy
) -> None:
    names = [run(runtimes["memory"], each) for each in ("1841", "1842")]

    done = invoke("env", "top", "--interval", "0.5")

    assert (done.exit_code, done.stderr) == (Exit.OK, "")
    assert done.stdout.splitlines() == [
        f"{names[1]}  mario_rossi  memory  150.0%  64.0 MiB  512.0 MiB  2.0 KiB  100 B  -  -  3",
        f"{names[0]}  mario_rossi  memory  50.0%  64.0 MiB  512.0 MiB  2.0 KiB  100 B  -  -  3",
    ]


def test_json_has_every_figure(invoke: Invoke, runtimes: Runtimes, engine: Busy) -> None:
    run(runtimes["memory"], "1841")

    done = invoke("env", "top", "--interval", "0.5", "--count", "2", "--json")

    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["reservation"], first["cores"], second["cores"]) == ("1841", 0.5, 0.5)
    assert first["memoryBytes"] == 64 * MEBIBYTE
    assert (first["receivedBytes"], first["readBytes"], first["restarts"]) == (2048, None, 0)
    assert first["at"] == "2026-03-02T08:00:04+00:00"  # of the second look


def test_what_ends_between_two_looks_is_left_out(invoke: Invoke, runtimes: Runtimes, engine: Busy) -> None:
    run(runtimes["memory"], "1841")
    engine.vanishing.add(reservation_key("default", "1841"))

    done = invoke("env", "top", "--interval", "0.5")

    assert (done.exit_code, done.stdout, done.stderr) == (Exit.OK, "", "nothing runs\n")


def test_only_what_is_wanted_is_looked_at(invoke: Invoke, runtimes: Runtimes, engine: Busy) -> None:
    run(runtimes["memory"], "1841")
    run(runtimes["memory"], "1842", User("77", "anna"))
    runtimes["other"] = Unavailable("It is off.")

    done = invoke("env", "top", "--interval", "0.5", "--user", "anna", "--runtime", "memory", "--json")

    assert [json.loads(line)["user"] for line in done.stdout.splitlines()] == ["anna"]


def test_a_runtime_that_does_not_answer_is_told_and_the_others_are_shown(
    invoke: Invoke, runtimes: Runtimes, engine: Busy
) -> None:
    run(runtimes["memory"], "1841")
    silent = MemoryProvisioner(runtime="silent")
    silent.engine.reachable = False
    runtimes["silent"] = silent

    done = invoke("env", "top", "--interval", "0.5")

    assert done.exit_code == Exit.FAILED
    assert "50.0%" in done.stdout
    assert done.stderr.count("silent does not answer: The in-memory engine is switched off.") == 2


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_there_is_a_table_from_the_first_look_on(
    invoke: Invoke, runtimes: Runtimes, engine: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.cli.console.out.is_interactive", True)
    name = run(runtimes["memory"], "1841")

    shown = invoke("env", "top", "--interval", "0.5", "--count", "1").stdout

    assert "environment" in shown
    assert name in shown
    rows = [line for line in shown.splitlines() if name in line]
    # No rate is known at the first look; the last table is drawn once more at the end.
    assert [line.split("│")[4].strip() for line in rows] == ["-", "50.0%", "50.0%"]


def test_counters_that_begin_anew_make_no_rate() -> None:
    assert USED.cores_since(None) is None
    assert USED.cores_since(replace(USED, at=START - timedelta(seconds=1), cpu_seconds=11.0)) is None
    assert USED.cores_since(USED) is None
    assert USED.cores_since(replace(USED, at=START - timedelta(seconds=4), cpu_seconds=4.0)) == 1.5
