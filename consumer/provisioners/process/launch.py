"""Starting a supervisor and hearing from it how that went. Blocks."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from consumer.handling.errors import Permanent, ProvisionerError, Transient
from consumer.provisioners.process import supervisor
from consumer.provisioners.process.processes import KEY_VARIABLE
from consumer.provisioners.process.program import Program
from consumer.provisioners.text import last_words, shortened, without_paths

_FULL = frozenset({errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE})


def launch(
    program: Program,
    directory: Path,
    *,
    sockets: Sequence[int],
    lock_fd: int,
    nice: int,
    settle: float,
    timeout: float,
) -> None:
    """Start `program` under a supervisor of its own and return when it runs.

    The supervisor inherits the lock and lets go of it once it has written down who it is: if Moorage dies in the
    middle, whoever locks next finds either no process or a recorded one. Raises `Permanent("exited_at_start")` and
    `Transient`; then the caller ends what may have been started.
    """
    program.working_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    request = asdict(program) | {
        "working_dir": str(program.working_dir),
        "directory": str(directory),
        "lock_fd": lock_fd,
        "nice": nice,
        "settle": settle,
    }
    inherited = {KEY_VARIABLE: program.environment[KEY_VARIABLE], "PATH": os.defpath, "LANG": "C.UTF-8"}
    launcher = subprocess.Popen(  # noqa: S603 - our own interpreter and script; the template's command is data to it
        [sys.executable, *_python_options(), supervisor.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock_fd, *sockets),
        env=inherited,
        cwd=directory,
        start_new_session=True,
    )
    with launcher:
        try:
            answer, _ = launcher.communicate(json.dumps(request).encode(), timeout + settle)
        except subprocess.TimeoutExpired as error:
            launcher.kill()
            raise Transient("runtime_error", "The environment did not start in time.") from error
    result: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        result = json.loads(answer)
    if "pid" not in result:
        raise _failure(program.command[0], result)


def _python_options() -> list[str]:
    # Without site-packages it starts twice as fast; elsewhere than on Linux the supervisor needs psutil.
    return ["-I", "-S"] if sys.platform == "linux" else ["-I"]


def _failure(command: str, result: dict[str, Any]) -> ProvisionerError:
    if "exit_code" in result:
        words = last_words(without_paths(result["output"]), 150)
        ending = f" It said: {words}" if words else ""
        return Permanent("exited_at_start", f"The program ended at once ({_how(result['exit_code'])}).{ending}")
    if result.get("errno") in _FULL:
        return Transient("runtime_full", "The machine has no room for another process now.")
    if result.get("errno"):
        name = shortened(without_paths(command), 60)
        return Permanent("exited_at_start", f"The program {name} cannot be started: {os.strerror(result['errno'])}.")
    return Transient("runtime_error", "The environment's supervisor did not start.")


def _how(exit_code: int) -> str:
    return f"exit code {exit_code}" if exit_code >= 0 else f"signal {-exit_code}"
