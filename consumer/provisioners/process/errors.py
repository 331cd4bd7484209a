"""What the operating system's errors mean for a provisioning."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from consumer.handling.errors import ProvisionerError, Transient, Unavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS})
_BROKEN = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG}
)


@contextmanager
def os_errors_decided() -> Iterator[None]:
    """Turn any OSError into a decision. Its text names paths, so only the kind of error goes into the message."""
    try:
        yield
    except OSError as error:
        raise _decision(error) from error


def _decision(error: OSError) -> ProvisionerError:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in _FULL:
        return Transient("runtime_full", f"The machine has no room for this environment now: {reason}.")
    if error.errno in _BROKEN:
        return Unavailable(f"The directory of the process runtime cannot be used: {reason}.")
    return Transient("runtime_error", f"The process runtime failed: {reason}.")
