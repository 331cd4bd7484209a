"""The process runtime in a directory of its own, looked at with the operating system's eyes."""

import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from consumer.catalog.environment import EnvironmentSpec
from consumer.handling.ports import Environment, Provisioner
from consumer.provisioners.process import ProcessOptions, ProcessProvisioner
from tests.provisioners.harness import Harness, until

_SERVER = """
import os, socket
body = os.linesep.join(map("=".join, os.environ.items())).encode(errors="surrogateescape")
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    visitor, _ = listener.accept()
    with visitor:
        visitor.recv(4096)
        visitor.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + body)
"""


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def supervisor_of(environment: Environment) -> psutil.Process:
    return psutil.Process(int(environment.native_id))


def ended(environment: Environment) -> bool:
    """Whether its supervisor is gone, or waits for nothing but process 1 to notice."""
    try:
        return supervisor_of(environment).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class ProcessHarness(Harness):
    command = (sys.executable, "-I", "-S", "-c", _SERVER)

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def options(self, instance: str, **changes: Any) -> ProcessOptions:
        return replace(ProcessOptions(self.root, instance, settle=0.05, stop_timeout=1.0), **changes)

    def new_provisioner(self, instance: str) -> Provisioner:
        return ProcessProvisioner(self.options(instance))

    def provisioner_with(self, **changes: Any) -> Provisioner:
        """One with other options than usual."""
        made = ProcessProvisioner(self.options(self.instance, **changes))
        self._opened.append(made)
        return made

    def unreachable(self) -> Provisioner:
        in_the_way = self.root / "a-file"
        in_the_way.touch()
        return ProcessProvisioner(ProcessOptions(in_the_way, self.instance))

    def directory(self, spec: EnvironmentSpec) -> Path:
        return self.root / self.instance / spec.name

    def home(self, spec: EnvironmentSpec) -> Path:
        return self.directory(spec) / "home"

    async def written(self, spec: EnvironmentSpec, file: str) -> str:
        """What the program of `spec` writes into this file of its home, as soon as it has."""
        path = self.home(spec) / file
        await until(lambda: path.exists() and path.stat().st_size > 0)
        return path.read_text()

    async def stop(self, environment: Environment) -> None:
        os.killpg(int(environment.native_id), signal.SIGKILL)
        await until(lambda: ended(environment))

    async def occupy(self, spec: EnvironmentSpec) -> None:
        self.directory(spec).mkdir(parents=True)
        (self.directory(spec) / "precious").touch()

    async def vacate(self, spec: EnvironmentSpec) -> bool:
        if not (self.directory(spec) / "precious").exists():
            return False
        (self.directory(spec) / "precious").unlink()
        self.directory(spec).rmdir()
        return True

    def processes(self) -> list[psutil.Process]:
        """All that run in or below this test's directories."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(self.root):
                    found.append(process)
        return found

    async def leftovers(self) -> list[str]:
        files = [path for path in self.root.rglob("*") if not path.is_dir() or not path.name.startswith(".")]
        instances = {self.root / self.instance, self.root / f"{self.instance}-b", self.root / "a-file"}
        return [str(path) for path in files if path not in instances] + [str(each) for each in self.processes()]
