"""`moorage demo` does what it says, proves it, and leaves nothing behind, also when somebody ends it in the middle."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def demo(tmp_path: Path) -> "Demo":
    return Demo(tmp_path)


class Demo:
    """One demonstration without Kafka and without Docker, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tmp"
        self._folder.mkdir()
        self._log = folder / "log"

    def begin(self) -> subprocess.Popen[bytes]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("MOORAGE_", "KAFKA_"))}
        nowhere = {"DOCKER_HOST": f"unix://{self._folder}/nobody.sock", "TMPDIR": str(self._folder)}
        with self._log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "consumer", "demo"],
                env={**ours, **nowhere, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def output(self) -> str:
        return self._log.read_text()

    def summary(self) -> dict[str, tuple[str, str]]:
        """What was counted and what was expected, by what it is."""
        rows = re.findall(r"│ +([a-z][a-z -]*?) +│ +([\d.]+) +│ +(< \d+|\d+) +│", self.output())
        return {name: (counted, expected) for name, counted, expected in rows}

    def left(self) -> list[str]:
        """Files and processes that are still there. Environments run below the folder of the demonstration."""
        files = [str(path) for path in self._folder.iterdir()]
        return files + [str(process) for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return str(self._folder) in " ".join([process.cwd(), *process.cmdline(), *process.environ().values()])
        except psutil.Error:
            return False


def test_the_morning_comes_out_as_expected_and_leaves_nothing(demo: Demo) -> None:
    process = demo.begin()
    try:
        assert process.wait(120) == 0, demo.output()
    finally:
        process.kill()
    summary = demo.summary()
    del summary["seconds"]
    assert summary == {
        "provisioned": ("40", "40"),
        "released": ("40", "40"),
        "interrupted": ("1", "1"),
        "expired": ("1", "1"),
        "refused": ("2", "2"),
        "skipped": ("2", "2"),
        "updated": ("1", "1"),
        "dead-lettered": ("1", "1"),
        "left running": ("0", "0"),
    }
    assert "Opened http://127.0.0.1:" in demo.output()
    assert demo.left() == []


def test_whoever_interrupts_it_is_left_with_nothing(demo: Demo) -> None:
    process = demo.begin()
    try:
        eventually(lambda: demo.output().count("  provisioned  ") > 10, what="some environments run")
        process.send_signal(signal.SIGSTOP)  # or it may be over before all processes have been looked at
        assert demo.left() != []
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        assert process.wait(110) == 130, demo.output()
    finally:
        process.kill()
    assert "Traceback" not in demo.output()
    assert demo.left() == []
