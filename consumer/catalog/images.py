"""Image references, read as Docker reads them, with none of its leniency about where they come from.

The grammar is that of github.com/distribution/reference. Upper case in a name is refused: nothing but a look-alike
is lost by it.
"""

import re
from dataclasses import dataclass

from consumer.catalog.errors import Refused
from consumer.catalog.wording import quoted

DEFAULT_DOMAIN = "docker.io"
MAX_NAME_LENGTH = 255
MAX_REFERENCE_LENGTH = 520

_ADVICE = 'Write it like "nginx:1.27" or "registry.example.org/team/app:2".'
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]{{2,39}}\])(?::(?P<port>[0-9]{{1,5}}))?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """Where an image comes from and which it is. `str()` is the full form; a digest, when there is one, decides."""

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.domain}/{self.path}{tag}{digest}"


def parse_image(text: str) -> ImageReference:
    """The reference that `text` means: `nginx` is `docker.io/library/nginx:latest`.

    Raises `Refused("image_invalid")`.
    """
    if len(text) > MAX_REFERENCE_LENGTH:
        raise _invalid(f"The image name is longer than {MAX_REFERENCE_LENGTH} characters.")
    if "://" in text:
        raise _invalid(f"{quoted(text)} is not an image name: leave out what comes before :// and that too. {_ADVICE}")
    name, tag, digest = split_reference(text)
    domain, path = split_name(name)
    if len(domain) + 1 + len(path) > MAX_NAME_LENGTH:
        raise _invalid(f"The image name without its tag is longer than {MAX_NAME_LENGTH} characters.")
    if not _is_domain(domain):
        raise _invalid(f"{quoted(text)} is not an image name: the registry before the first / is not a host name.")
    if not all(_COMPONENT.fullmatch(part) for part in path.split("/")) or _IDENTIFIER.fullmatch(name):
        why = ": image names are lower-case" if name.isascii() and name != name.lower() else ""
        raise _invalid(f"{quoted(text)} is not an image name{why}. {_ADVICE}")
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(f"The tag of {quoted(text)} is not one: letters, digits, '.', '_' and '-', at most 128.")
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise _invalid(f"The digest of {quoted(text)} is not one: write sha256: and 64 lower-case hex digits.")
    return ImageReference(domain, path, tag if tag or digest else "latest", digest)


def split_reference(text: str) -> tuple[str, str | None, str | None]:
    """Name, tag and digest of a reference or pattern, unchecked; `localhost:5000/a` has a port, not a tag."""
    named, at, digest = text.partition("@")
    head, slash, last = named.rpartition("/")
    last, colon, tag = last.partition(":")
    return f"{head}{slash}{last}", tag if colon else None, digest if at else None


def split_name(name: str) -> tuple[str, str]:
    """Registry and path of a name or pattern, unchecked, with Docker's rule for what a first segment is.

    It is a registry only when it has a dot or a colon, or is `localhost`.
    """
    first, slash, rest = name.partition("/")
    domain, path = (first, rest) if slash and ({".", ":"} & set(first) or first == "localhost") else ("", name)
    if domain in ("", "index.docker.io"):
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path and path != "**":
        path = f"library/{path}"
    return domain, path


def tagged(text: str) -> str:
    """`text`, a valid reference, with `:latest` when it names neither tag nor digest.

    The Docker Engine pulls every tag of a repository when told none. The rest stays as written: Podman finds local
    images by their short names.
    """
    _, tag, digest = split_reference(text)
    return text if tag or digest else f"{text}:latest"


def _is_domain(text: str) -> bool:
    found = _DOMAIN.fullmatch(text)
    return found is not None and (found["port"] is None or 1 <= int(found["port"]) <= 65535)


def _invalid(message: str) -> Refused:
    return Refused("image_invalid", message)
