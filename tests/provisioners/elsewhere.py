"""Another Moorage, which ends as by kill -9.

A crash point is `module:Class.function:before` or `:after`, with `:2` behind it for the second call. `delivered` is
the point at which a supervisor has its order and nobody waits for its answer; `done` is after everything.
"""

import asyncio
import functools
import importlib
import multiprocessing
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from consumer.handling.ports import Provisioner

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.provisioners.elsewhere", "consumer.provisioners.process"])


@dataclass(frozen=True)
class Order:
    """`options` decide which provisioner it is; `subject` is the spec to ensure or the key to remove."""

    options: Any
    action: Literal["ensure", "remove"]
    subject: Any
    die: str = "done"


def carry_out(order: Order) -> str:
    """Do it in a process of its own until that dies; returns the native id it had seen, if it came that far."""
    ours, theirs = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_live_and_die, args=(order, theirs))
    process.start()
    theirs.close()
    try:
        with ours:
            answer: str = ours.recv()
    except EOFError:
        answer = ""
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()
    return answer


def _live_and_die(order: Order, answers: Connection) -> None:
    if order.die != "done":
        _die_at(order.die)
    asyncio.run(_live(order, answers))


async def _live(order: Order, answers: Connection) -> None:
    provisioner = _provisioner_for(order.options)
    if order.action == "remove":
        await provisioner.remove(order.subject)
    else:
        answers.send((await provisioner.ensure(order.subject, lambda _: None)).native_id)
    _die()


def _provisioner_for(options: Any) -> Provisioner:
    if type(options).__name__ == "DockerOptions":
        from consumer.provisioners.docker import DockerProvisioner

        return DockerProvisioner(options)
    if type(options).__name__ == "KubernetesOptions":
        from consumer.provisioners.kubernetes import KubernetesProvisioner

        return KubernetesProvisioner(options)
    from consumer.provisioners.process import ProcessProvisioner

    return ProcessProvisioner(options)


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _die_at(point: str) -> None:
    if point == "delivered":
        subprocess.Popen.communicate = _deliver_and_die  # type: ignore[assignment, method-assign]
        return
    module, path, moment, *which = point.split(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    original = getattr(owner, name)
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        due = calls == int(which[0] if which else 1)
        if due and moment == "before":
            _die()
        result = original(*args, **kwargs)
        if due:
            _die()
        return result

    setattr(owner, name, deadly)


def _deliver_and_die(launcher: subprocess.Popen[bytes], order: bytes, timeout: float) -> None:
    assert launcher.stdin is not None
    launcher.stdin.write(order)
    launcher.stdin.close()
    _die()
