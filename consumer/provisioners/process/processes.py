"""The processes of an environment: found by their supervisor and by a variable they all inherit, and ended for good.

All functions block. A pid alone is never trusted: who is killed was recognised right before.
"""

import contextlib
import os
import signal
import time

import psutil

from consumer.handling.errors import Transient
from consumer.provisioners.process.record import Leader
from consumer.provisioners.process.supervisor import start_mark

KEY_VARIABLE = "MOORAGE_ENVIRONMENT"
"""In the environment of each process, with the key as its value: who left the process group is found by it."""

_AFTER_KILL = 5.0


def alive(leader: Leader | None) -> bool:
    """Whether this very process still runs, and not merely one with its pid."""
    return leader is not None and start_mark(leader.pid) == leader.mark


def family(key: str, leader: Leader | None) -> list[psutil.Process]:
    """Every running process of the environment `key`, whichever session or group it moved to."""
    session = leader.pid if leader is not None and alive(leader) else None
    return [process for process in psutil.process_iter() if _belongs(process, key, session)]


def end_family(key: str, leader: Leader | None, patience: float) -> None:
    """SIGTERM to the environment's process group and all its processes, SIGKILL to what is left after `patience`.

    Raises `Transient` when something survives even that (a process stuck in the kernel).
    """
    if leader is not None and alive(leader):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGTERM)
    _end(family(key, leader), signal.SIGTERM, patience)
    deadline = time.monotonic() + _AFTER_KILL
    # Again until none is found: one that forks while it is being killed leaves new ones behind.
    while survivors := family(key, leader):
        if time.monotonic() > deadline:
            raise Transient("runtime_error", "Some processes of the environment cannot be ended yet.")
        _end(survivors, signal.SIGKILL, 0.5)


def _end(processes: list[psutil.Process], number: signal.Signals, patience: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    deadline = time.monotonic() + patience
    pause = 0.005
    while any(_runs(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    for process in processes:
        _reap(process.pid)


def _belongs(process: psutil.Process, key: str, session: int | None) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        if session is not None and os.getsid(process.pid) == session:
            return _runs(process)
        return process.environ().get(KEY_VARIABLE) == key
    return False


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _reap(pid: int) -> None:
    # In a container Moorage is often process 1, and then every orphan becomes its child.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
