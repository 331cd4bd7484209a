"""Files on their way into containers and out of them, as the tar archives that engines speak. No I/O here."""

import io
import tarfile
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """Where somebody logs in to: sshd wants the files in `home` to be theirs."""

    home: str
    uid: int
    gid: int


def only_file(archive: bytes) -> bytes | None:
    """What the one file in a tar holds; None if it is a link or a directory. Raises ValueError for what is no tar."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            entry = tar.next()
            # A link in a tar has no content, and following it would lead nowhere.
            content = tar.extractfile(entry) if entry is not None and entry.isreg() else None
            return None if content is None else content.read()
    except tarfile.TarError as error:
        raise ValueError("not a tar archive") from error


def key_archive(account: Account, line: str, *, below: str = "") -> bytes:
    """A tar with `.ssh/authorized_keys`, as sshd's StrictModes want it; `below` is a home to be made around it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in filter(None, (below, f"{below}/.ssh".lstrip("/"))):
            tar.addfile(_owned(tarfile.TarInfo(name), account, tarfile.DIRTYPE, 0o700))
        content = f"{line}\n".encode()
        entry = _owned(tarfile.TarInfo(f"{below}/.ssh/authorized_keys".lstrip("/")), account, tarfile.REGTYPE, 0o600)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _owned(entry: tarfile.TarInfo, account: Account, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry.type, entry.mode, entry.uid, entry.gid = kind, mode, account.uid, account.gid
    return entry
