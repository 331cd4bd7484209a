"""What the engine's answers, and its silence, mean for a provisioning."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiodocker.exceptions import DockerContextError, DockerError

from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.provisioners.docker.dialects import Dialect, Meaning
from consumer.provisioners.refusals import denied, limited, not_found
from consumer.provisioners.text import shortened, without_paths

_NO_CONNECTION = 900
"""aiodocker's stand-in for a status when the engine could not be reached."""

_PORT_TAKEN = re.compile(r"port is already allocated|address already in use|ports are not available", re.IGNORECASE)
_NO_DEVICE = re.compile(
    r"could not select device driver|nvidia-container-cli|CDI device|unsupported device driver",
    re.IGNORECASE,
)
_NO_ROOM = re.compile(r"no space left|cannot allocate memory|too many open files|resource temporarily", re.IGNORECASE)
_NO_ADDRESS = re.compile(
    r"non-overlapping IPv4 address pool|address pools have been fully subnetted|no available IPv4 addresses"
    r"|exchange full",  # what the kernel says of a bridge with 1,023 ports
    re.IGNORECASE,
)
_NO_SUCH = re.compile(r"no such (?:image|container)", re.IGNORECASE)
_NETWORK_IN_USE = re.compile(r"same bridge name|has active endpoints", re.IGNORECASE)
_NOT_STARTABLE = re.compile(
    r"executable file not found|no such file or directory|permission denied|exec format error|not a directory"
    r"|is a directory",
    re.IGNORECASE,
)
_OCI = re.compile(r"oci runtime|runc|crun|failed to create (?:shim|task)|starting container process", re.IGNORECASE)
_NOT_FOUND = re.compile(
    r"manifest unknown|name unknown|not found|no matching manifest|does not match the specified platform",
    re.IGNORECASE,
)
_DENIED = re.compile(r"access denied|denied:|unauthorized|authentication required|no basic auth", re.IGNORECASE)
_LIMITED = re.compile(r"toomanyrequests|too many requests|rate limit", re.IGNORECASE)
_NETWORK = re.compile(r"dial tcp|lookup |timeout|connection re|EOF|tls|x509|proxyconnect|no route", re.IGNORECASE)


class Answer(Exception):
    """What only the one who asked can make a decision of. Does not leave this package."""


class Missing(Answer):
    """The engine knows no such container, image or network."""


class Conflicting(Answer):
    """The engine refuses for the present state of things: a name taken, a removal under way."""


class NoStorageLimits(Answer):
    """The storage driver takes no size after all, of a container or of a volume."""


class ReadOnly(Answer):
    """A file was to be written where the container's files are read-only."""


@contextmanager
def engine_errors_decided(*expected: type[Exception], dialect: Dialect) -> Iterator[None]:
    """Turn everything the client raises into a decision, or into one of the `expected` answers."""
    try:
        yield
    except DockerError as error:
        meaning = _of_answer(error, dialect)
        if isinstance(meaning, Answer) and not isinstance(meaning, expected):
            meaning = Unavailable(f"What answers does not behave like {dialect.engine}.")
        raise meaning from error
    except TimeoutError as error:
        raise Unavailable(f"{dialect.subject} does not answer in time.") from error
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise Unavailable(f"{dialect.subject} and Moorage do not accept each other's certificates.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"{dialect.subject} cannot be reached.") from error
    except (ValueError, KeyError, TypeError, AssertionError, DockerContextError) as error:
        # What the client raises when an answer is not the engine's: cut off, or from something else that listens there.
        raise Unavailable(f"What answers is not {dialect.engine}.") from error


def pull_error(image: str, error: DockerError, dialect: Dialect, *, with_login: bool = False) -> ProvisionerError:
    """What a failed pull means; registries say it in many words, at any status, and in the middle of the stream."""
    # The name is the user's choice: it must not pass for a reason.
    said = error.message.replace(image, "").replace(image.rpartition(":")[0] or image, "")
    name = shortened(image, 120)
    if error.status == _NO_CONNECTION:
        return Unavailable(f"{dialect.subject} cannot be reached.")
    if error.status == 400 or dialect.read(said)[0] is Meaning.REFUSED:
        return Permanent("invalid_spec", f"{name} is not a valid image name.")
    if _LIMITED.search(said):
        return limited(name)
    if _NO_ROOM.search(said):
        return Transient("runtime_full", f"{dialect.subject} has no room for the image {name}.")
    if _DENIED.search(said):
        return denied(name, with_login=with_login)
    if error.status == 404 or _NOT_FOUND.search(said):
        return not_found(name)
    if _NETWORK.search(said):
        return Transient("image_pull_failed", f"The registry of {name} cannot be reached.")
    return Transient("image_pull_failed", f"The image {name} could not be pulled.")


def is_of_network(error: Missing) -> bool:
    """Whether it is the network that the engine does not know, not the container or an image, whatever their names."""
    return "network" in str(error) and not _NO_SUCH.search(str(error))


def _of_answer(error: DockerError, dialect: Dialect) -> Exception:
    said = error.message
    meaning, words = dialect.read(said)
    if error.status == _NO_CONNECTION:
        return Unavailable(f"{dialect.subject} cannot be reached.")
    if _NO_ADDRESS.search(said):
        return Transient("runtime_full", f"{dialect.subject} has no network addresses left for this environment.")
    if error.status == 403 and _NETWORK_IN_USE.search(said):
        return Conflicting(said)
    if error.status in (401, 403, 407):
        return Unavailable(f"{dialect.subject} refuses Moorage's access.")
    if meaning is Meaning.MISSING or (error.status == 404 and not _OCI.search(said)):
        return Missing(said)
    if meaning is Meaning.CONFLICT or error.status == 409:
        return Conflicting(said)
    if meaning is Meaning.REFUSED:
        return _refused(words, dialect)
    if "storage-opt" in said or "quota size" in said:
        return NoStorageLimits(said)
    if "is marked read-only" in said and not _OCI.search(said):
        return ReadOnly(said)
    if _NO_DEVICE.search(said):
        return Permanent("device_not_available", "The engine's machine cannot provide the GPU or device asked for.")
    if _PORT_TAKEN.search(said):
        return Transient("port_taken", "A port of the host that this environment needs is in use.")
    if _OCI.search(said) and _NOT_STARTABLE.search(said):
        return Permanent("exited_at_start", f"The image cannot run this command: {_reason(said)}.")
    if _NO_ROOM.search(said):
        return Transient("runtime_full", f"{dialect.subject} has no room for this environment now.")
    if error.status == 400:
        return _refused(said, dialect)
    return Transient("runtime_error", f"{dialect.subject} failed at this request.")


def _refused(said: str, dialect: Dialect) -> Permanent:
    return Permanent("invalid_spec", f"{dialect.subject} refuses these settings: {shortened(without_paths(said), 150)}")


def _reason(said: str) -> str:
    found = _NOT_STARTABLE.search(said)
    return found[0].lower() if found else "it cannot be started"
