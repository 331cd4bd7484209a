"""On what was measured: the machine, and the versions of what ran on it."""

import asyncio
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


_PRESSURE = Path("/proc/pressure/cpu")
_QUIET = 5.0
"""Percent of the last ten seconds in which something waited for a processor: less is quiet."""


def stalled() -> float:
    """Seconds since the start of the system in which something waited for a processor; 0 where nobody counts them."""
    return _pressure("total") / 1e6


async def quiet(patience: float) -> None:
    """Return when the machine has nothing else to do, at the latest after `patience` seconds."""
    deadline = time.monotonic() + patience
    while _pressure("avg10") > _QUIET and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(1.0)


def _pressure(name: str) -> float:
    try:
        some = _PRESSURE.read_text().splitlines()[0]
    except OSError:  # no Linux, or one without pressure stall information
        return 0.0
    return float(some.partition(f"{name}=")[2].split()[0])


def describe(command: list[str]) -> dict[str, str]:
    """Everything a reader needs to judge a number, or to get it again."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m benchmarks", *command]),
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} CPUs, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in ("moorage", "aiokafka", "pydantic")),
        "load at start": f"{os.getloadavg()[0]:.2f}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), sys.platform)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        # A fixed command.
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
