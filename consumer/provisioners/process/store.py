"""The directories of the process runtime, written so that a crash at any point leaves something recognisable.

    root/instance/NAME/environment.json   the record; a directory called NAME is ours if it has one
    root/instance/NAME/leader.json        the supervisor's pid and start, written by itself
    root/instance/NAME/home/              where the program runs
    root/instance/.keys/KEY               a symbolic link whose target is NAME; read, never followed
    root/instance/.limbo/KEY              not yet, or no longer, an environment
    root/instance/.locks/KEY              held while one works on KEY

An environment is put together in limbo and renamed into place; its removal begins with renaming it back. All methods
block and raise OSError; nothing here follows a symbolic link.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from consumer.handling.errors import Permanent, Transient
from consumer.provisioners.labels import belongs_to
from consumer.provisioners.process.record import Leader, Record
from consumer.provisioners.process.supervisor import LEADER_FILE, LOG_FILE

RECORD_FILE = "environment.json"
HOME = "home"

_POLL = 0.02
_RECORD_BYTES = 1 << 20
_OUTPUT_BYTES = 4096
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ELOOP, errno.EACCES, errno.EISDIR})


class Store:
    def __init__(self, root: Path, instance: str) -> None:
        self._instance = instance
        self._base = root / instance
        self._keys, self._limbo, self._locks = (self._base / part for part in (".keys", ".limbo", ".locks"))

    def prepare(self) -> None:
        """Make the directories, for us alone. Raises PermissionError when somebody else owns them."""
        self._base.parent.mkdir(parents=True, exist_ok=True)
        for directory in (self._base, self._keys, self._limbo, self._locks):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=0o700)
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if found.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            if stat.S_IMODE(found.st_mode) != 0o700:
                directory.chmod(0o700)

    @contextlib.contextmanager
    def lock(self, key: str, timeout: float) -> Iterator[int]:
        """Keep every other process and thread off `key`; yields the lock's descriptor, for a child to hold on to."""
        path = self._locks / key
        deadline = time.monotonic() + timeout
        while (fd := _try_lock(path)) is None:
            if time.monotonic() > deadline:
                raise Transient("runtime_busy", "Something else is still at work on this environment.")
            time.sleep(_POLL)
        try:
            yield fd
        finally:
            os.close(fd)

    def forget_lock(self, key: str) -> None:
        """Remove the lock's file. Only its holder may, as its last act: who waits sees that it waits for a dead one."""
        (self._locks / key).unlink(missing_ok=True)

    def directory(self, record: Record) -> Path:
        return self._base / record.name

    def last_output(self, record: Record) -> str:
        """The end of the program's log; empty when there is none."""
        try:
            with (self.directory(record) / LOG_FILE).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _OUTPUT_BYTES))
                return log.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def read(self, key: str) -> Record | None:
        """The environment of `key`."""
        try:
            target = (self._keys / key).readlink()
        except OSError as error:
            _raise_unless_absent(error)
            return None
        record = self._at(target.name) if str(target) == target.name else None
        return record if record is not None and record.key == key else None

    def read_all(self) -> list[Record]:
        """All environments; one whose key was lost becomes findable by it again."""
        names = sorted(entry.name for entry in os.scandir(self._base) if not entry.name.startswith("."))
        records = [record for record in map(self._at, names) if record is not None]
        for record in records:
            with contextlib.suppress(FileExistsError):
                (self._keys / record.key).symlink_to(record.name)
        return records

    def leader(self, record: Record) -> Leader | None:
        """Who supervises, or once did."""
        data = _read(self.directory(record) / LEADER_FILE)
        return Leader.from_json(data) if data is not None else None

    def create(self, record: Record) -> None:
        """Put the environment's directory in place. Raises `Permanent("conflict")` if something else is there."""
        draft, place = self._limbo / record.key, self.directory(record)
        if os.path.lexists(place):
            raise _taken(record.name)
        self.clear_leftovers(record.key)
        draft.mkdir(mode=0o700)
        (draft / HOME).mkdir(mode=0o700)
        _write(draft / RECORD_FILE, record.to_json())
        key = self._keys / record.key
        key.symlink_to(record.name)
        try:
            draft.rename(place)
        except (FileExistsError, NotADirectoryError) as error:
            key.unlink()
            raise _taken(record.name) from error
        _sync(self._base)

    def update(self, record: Record) -> None:
        _write(self.directory(record) / RECORD_FILE, record.to_json())

    def mark_dying(self, record: Record) -> Record:
        """From now on nobody takes it for an environment to adopt, even if its removal is cut short."""
        dying = replace(record, dying=True)
        self.update(dying)
        return dying

    def discard(self, record: Record) -> None:
        """Delete the directory of an environment that has no process any more."""
        self.clear_leftovers(record.key)
        self.directory(record).rename(self._limbo / record.key)
        self.clear_leftovers(record.key)

    def clear_leftovers(self, key: str) -> bool:
        """Delete what a creation or removal of `key` left half-done; True when there was something."""
        link, remains = self._keys / key, self._limbo / key
        found = False
        if link.is_symlink() and self.read(key) is None:
            link.unlink()
            found = True
        if os.path.lexists(remains):
            _delete(remains)
            found = True
        return found

    def _at(self, name: str) -> Record | None:
        data = _read(self._base / name / RECORD_FILE)
        record = Record.from_json(data) if data is not None else None
        if record is None or record.name != name or not belongs_to(record.labels, self._instance):
            return None
        return record


def _taken(name: str) -> Permanent:
    return Permanent("conflict", f"The name {name} belongs to something Moorage did not make.")


def _try_lock(path: Path) -> int | None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    ours = False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us may have removed the file: then this lock keeps nobody off.
        ours = os.fstat(fd).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return None
    finally:
        if not ours:
            os.close(fd)
    return fd if ours else None


def _read(path: Path) -> bytes | None:
    try:
        if not stat.S_ISDIR(path.parent.lstat().st_mode):
            return None
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        _raise_unless_absent(error)
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read(_RECORD_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else None


def _raise_unless_absent(error: OSError) -> None:
    # Nothing else may pass for absence: with all file descriptors in use, everything would look removed.
    if error.errno not in _ABSENT:
        raise error


def _write(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    draft.rename(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _delete(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except PermissionError:
        _open_up(directory)
        shutil.rmtree(directory)


def _open_up(directory: Path) -> None:
    """Give ourselves back the directories that the program closed to everybody."""
    directory.chmod(0o700)
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            _open_up(Path(entry.path))
