"""The parent of one environment's program: starts it, restarts it when it crashes, ends with it.

Moorage runs this file as a script (`python -I -S supervisor.py`) and hands it a request on standard input. It forks
once and the first process leaves, so that the supervisor outlives Moorage and is nobody's zombie. Only the standard
library is imported, and as little of it as will do: there is one supervisor an environment.
"""

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

LEADER_FILE = "leader.json"
LOG_FILE = "output.log"
LOG_BYTES = 256 * 1024
"""The log and the one before it are kept: twice this an environment at most."""

_TAIL_BYTES = 2048
_FIRST_DELAY, _LONGEST_DELAY, _STEADY = 0.5, 30.0, 60.0
_LOOK_AROUND = 2.0
_PATIENCE = 10.0
_INHERITED_HANDLERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)


def start_mark(pid: int) -> str | None:
    """What tells this process from a later one with the same pid; None when it has ended.

    On Linux it is the boot and the tick it started at: unlike a time of day, no clock step changes it.
    """
    if sys.platform != "linux":
        import psutil  # not there on Linux, where `-S` leaves site-packages out

        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
        except psutil.NoSuchProcess:
            return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if fields[0] in (b"Z", b"X") else f"{boot}:{int(fields[19])}"


class _Log:
    """The program's output: a bounded file, and its last bytes for a message."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tail = b""

    def write(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        with contextlib.suppress(OSError):  # a full disk must not end the environment
            with self._path.open("ab") as file:
                file.write(data)
                full = file.tell() > LOG_BYTES
            if full:
                self._path.replace(self._path.with_suffix(".log.1"))


class Supervisor:
    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._directory = Path(request["directory"])
        self._log = _Log(self._directory / LOG_FILE)
        self._child: int | None = None
        self._exit_code = 0
        self._stopping = False
        self._wake_in, self._wake_out = os.pipe()
        self._output_in, self._output_out = os.pipe()

    def run(self) -> None:
        """Start the program, say on standard output how that went, and stay until it is over."""
        self._write_down_who_leads()
        # Until here the lock kept everybody else off: from now on they find us.
        os.close(self._request["lock_fd"])
        os.nice(self._request["nice"])
        self._listen_for_signals()
        try:
            self._start()
        except OSError as error:
            self._tell({"errno": error.errno})
            return
        self._wait(self._request["settle"])
        if self._child is None:
            self._tell({"exit_code": self._exit_code, "output": self._log.tail.decode(errors="replace")})
            return
        self._tell({"pid": os.getpid()})
        self._keep_running()

    def _write_down_who_leads(self) -> None:
        mine = self._directory / LEADER_FILE
        draft = mine.with_suffix(".tmp")
        draft.write_text(json.dumps({"pid": os.getpid(), "mark": start_mark(os.getpid())}))
        draft.replace(mine)
        self._inode = mine.stat().st_ino

    def _listen_for_signals(self) -> None:
        for end in (self._wake_in, self._wake_out):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _keep_running(self) -> None:
        delay = _FIRST_DELAY
        while True:
            started = time.monotonic()
            while self._child is not None and not self._stopping:
                self._wait(_LOOK_AROUND)
                self._stopping |= self._deserted()
            if self._stopping:
                return self._end_child()
            if self._exit_code == 0:
                return None
            if time.monotonic() - started > _STEADY:
                delay = _FIRST_DELAY
            self._wait(delay, for_child=False)
            delay = min(delay * 2, _LONGEST_DELAY)
            if not self._stopping:
                with contextlib.suppress(OSError):
                    self._start()

    def _deserted(self) -> bool:
        """Whether the directory is gone or has another leader by now: then nobody could ever find us to end us."""
        try:
            return (self._directory / LEADER_FILE).stat().st_ino != self._inode
        except OSError:
            return True

    def _end_child(self) -> None:
        if self._child is not None:
            os.kill(self._child, signal.SIGTERM)
            self._wait(_PATIENCE, stop_counts=False)
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            self._wait(_PATIENCE, stop_counts=False)

    def _wait(self, seconds: float, *, for_child: bool = True, stop_counts: bool = True) -> None:
        """Let `seconds` pass, or until the child has ended (`for_child`) or we are told to stop (`stop_counts`)."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._wake_in, select.POLLIN)
        poll.register(self._output_in, select.POLLIN)
        while not (for_child and self._child is None) and not (stop_counts and self._stopping):
            left = deadline - time.monotonic()
            ready = [fd for fd, _ in poll.poll(max(0, left) * 1000)]
            if self._output_in in ready:
                self._log.write(os.read(self._output_in, 65536))
            if self._wake_in in ready:
                os.read(self._wake_in, 512)
            self._reap()
            if left <= 0:
                return

    def _reap(self) -> None:
        if self._child is None:
            return
        pid, status = os.waitpid(self._child, os.WNOHANG)
        if pid:
            self._child = None
            self._exit_code = os.waitstatus_to_exitcode(status)
            self._drain()

    def _drain(self) -> None:
        """Read what the child wrote right before it ended."""
        os.set_blocking(self._output_in, False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):
                self._log.write(os.read(self._output_in, 65536))
        os.set_blocking(self._output_in, True)

    def _start(self) -> None:
        """Fork and exec the program; raises the OSError that stopped it from becoming one."""
        failure_in, failure_out = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(failure_in)
            self._become(failure_out)
        self._child = pid
        os.close(failure_out)
        with os.fdopen(failure_in, "rb") as pipe:
            failure = pipe.read()
        if failure:
            os.waitpid(pid, 0)
            self._child = None
            self._exit_code = 127
            raise OSError(int(failure), "exec")

    def _become(self, failure_out: int) -> NoReturn:
        request = self._request
        try:
            signal.set_wakeup_fd(-1)
            for number in _INHERITED_HANDLERS:
                signal.signal(number, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(self._output_out, 1)
            os.dup2(self._output_out, 2)
            for name, limit in request["limits"].items():
                number = getattr(resource, name)
                hard = resource.getrlimit(number)[1]
                limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
                resource.setrlimit(number, (limit, limit))
            os.chdir(request["working_dir"])
            os.execvpe(request["command"][0], request["command"], request["environment"])  # noqa: S606 - no shell wanted
        except OSError as error:
            os.write(failure_out, str(error.errno).encode())
        finally:
            os._exit(127)

    def _tell(self, result: dict[str, Any]) -> None:
        # Moorage may have died meanwhile: nobody to tell is no reason to stop.
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(result).encode())
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)

    def end_the_rest(self) -> None:
        """What the program left running in the background ends with it."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def main() -> None:
    request = json.load(sys.stdin)
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    supervisor = Supervisor(request)
    supervisor.run()
    supervisor.end_the_rest()


if __name__ == "__main__":
    main()
