"""An image registry on loopback: Debian's docker-registry, empty at each start."""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.services.packages import need
from tests.services.ports import free_port, listening
from tests.services.rundir import RunDir, wait_until_ready

_START_SECONDS = 20
_PACKAGES = {"docker-registry": "docker-registry"}
_CONFIG = """\
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {folder}/images}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
"""
_AUTH = """\
auth:
  htpasswd: {{realm: test, path: {folder}/users}}
"""
USER, PASSWORD = "lab", "correct horse"
_USERS = f"{USER}:$2b$05$bTdaPW5YPLLhB3vc01OJ1OavY6w3ovDmXGSaFGAP0Bstb3TTain4m\n"
"""USER with the bcrypt of PASSWORD: nothing here makes one."""


@dataclass(frozen=True)
class Registry:
    """Answers at `address` (host:port) without TLS, which engines accept from loopback."""

    address: str
    run_dir: RunDir | None = None
    """None for one that was here before us."""

    @classmethod
    def start(cls, *, keep: bool = False, private: bool = False) -> Self:
        """The registry of MOORAGE_TEST_REGISTRY (host:port), or one of our own. Raises ServiceMissing.

        A `private` one is always our own, and serves nobody but USER.
        """
        if (address := os.environ.get("MOORAGE_TEST_REGISTRY")) and not private:
            return cls(address)
        need(_PACKAGES)
        run_dir = RunDir.create("registry", keep=keep)
        port = free_port()
        registry = cls(f"127.0.0.1:{port}", run_dir)
        config = run_dir.path / "config.yml"
        text = _CONFIG + (_AUTH if private else "")
        config.write_text(text.format(folder=run_dir.path, address=registry.address))
        (run_dir.path / "users").write_text(_USERS)
        log = run_dir.path / "registry.log"
        process = run_dir.launch(["docker-registry", "serve", str(config)], log)
        try:
            wait_until_ready(process, lambda: listening(port), seconds=_START_SECONDS, log=log)
        except BaseException:
            run_dir.end()
            raise
        if not private:
            run_dir.announce("MOORAGE_TEST_REGISTRY", registry.address)
        return registry

    def stop(self) -> None:
        """End it and forget its images; one that was here before us is left alone."""
        if self.run_dir is not None:
            self.run_dir.end()


def prepare_registry() -> None:
    """Install what a registry of our own needs. Raises ServiceMissing where that cannot be."""
    if not os.environ.get("MOORAGE_TEST_REGISTRY"):
        need(_PACKAGES)


def write_login(path: Path, registry: str, *, password: str = PASSWORD) -> Path:
    """A file with USER's login for a registry (host:port), as `docker login` writes it."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {registry: {"auth": auth}}}))
    return path
