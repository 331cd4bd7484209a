"""What an operator decides about the process runtime."""

import re
from dataclasses import dataclass
from pathlib import Path

_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """Times are seconds. Environments lie in `root/instance`; `root` must be on a local file system, for its locks.

    `settle` is how long a template's command must have run to count as started. `public_host` is the host that users
    are told, when it is not `bind_host`. `workers` bounds how many environments are worked on at a time.
    """

    root: Path
    instance: str
    bind_host: str = "127.0.0.1"
    public_host: str | None = None
    start_timeout: float = 10.0
    stop_timeout: float = 5.0
    lock_timeout: float = 30.0
    settle: float = 0.2
    nice: int = 5
    open_files: int = 1024
    workers: int = 16

    def __post_init__(self) -> None:
        if not _INSTANCE.fullmatch(self.instance):
            raise ValueError("instance must be letters, digits, dots, dashes and underscores: it names a directory")
