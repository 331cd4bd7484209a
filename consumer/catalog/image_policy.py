"""Which images users may ask for. Patterns are matched against what a reference means, never against its spelling.

| pattern | allows |
| --- | --- |
| `nginx` | every tag and digest of `docker.io/library/nginx`: trust is in whoever can push there |
| `nginx:1.27`, `nginx:1.*` | those tags, not by digest: with a digest the tag decides nothing |
| `nginx@sha256:…`, `nginx@*` | that content whatever its tag; anything as long as it is pinned by a digest |
| `bitnami/*` | one path segment: `docker.io/bitnami/redis`, not `docker.io/bitnami/a/b` |
| `registry.local/**` | any number of segments, on that registry alone |
| `*.example.org/**` | one label of a host name for each `*` |
| `**` | everything, from everywhere |
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from consumer.catalog.errors import Refused
from consumer.catalog.images import ImageReference, parse_image, split_name, split_reference, tagged
from consumer.catalog.wording import listed, printable, quoted

OnViolation = Literal["reject", "substitute"]

_SEGMENT = re.compile(r"[a-z0-9*?][a-z0-9._*?-]*")
_DOMAIN = re.compile(r"[a-z0-9*?.-]+(?::(?:[0-9]+|\*))?|\[[0-9a-f:]+\](?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_.*?-]+")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}|\*")
_MAX_MACHINE_IMAGE = 255
_MACHINE_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:+()/-]*")


@dataclass(frozen=True, slots=True)
class ImagePattern:
    """One entry of an allow-list. `text` is what the operator wrote."""

    text: str
    domain: str
    segments: tuple[str, ...]
    tag: str | None
    digest: str | None

    def matches(self, image: ImageReference) -> bool:
        if self.text == "**":
            return True
        if not (_domain_matches(self.domain, image.domain) and _path_matches(self.segments, image.path.split("/"))):
            return False
        if self.digest is not None:
            return image.digest is not None and self.digest in ("*", image.digest)
        if self.tag is None:
            return True
        return image.digest is None and image.tag is not None and fnmatchcase(image.tag, self.tag)


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """The image to run, and a sentence for the user when it is not the one asked for."""

    image: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """The allow-list for container images. A template's own image is always allowed."""

    allow: tuple[ImagePattern, ...] = ()
    on_violation: OnViolation = "reject"

    def decide(self, asked: str, own: str) -> ImageChoice:
        """`asked` when it is allowed. Raises `Refused`: `image_invalid`, or `image_not_allowed` when rejecting."""
        image = parse_image(asked)
        if image == parse_image(own):
            return ImageChoice(tagged(own))
        if any(pattern.matches(image) for pattern in self.allow):
            return ImageChoice(str(image))
        return _violation(self.on_violation, asked, tagged(own), [pattern.text for pattern in self.allow])


@dataclass(frozen=True, slots=True)
class MachineImagePolicy:
    """The allow-list for images of virtual machines, which are plain names; `*` stands for anything but a slash."""

    allow: tuple[str, ...] = ()
    on_violation: OnViolation = "reject"

    def decide(self, asked: str, own: str) -> ImageChoice:
        """As `ImagePolicy.decide`, for names such as `Ubuntu 24.04` or `courses/net-lab.qcow2`."""
        if asked == own:
            return ImageChoice(own)
        # libvirt's images are files: a name must not climb out of their directory.
        if len(asked) > _MAX_MACHINE_IMAGE or not _MACHINE_IMAGE.fullmatch(asked) or ".." in asked or "//" in asked:
            raise Refused("image_invalid", f"{quoted(asked)} is not an image name. Write it as your course tells you.")
        if any(_path_matches(pattern.split("/"), asked.split("/")) for pattern in self.allow):
            return ImageChoice(asked)
        return _violation(self.on_violation, asked, own, self.allow)


def parse_pattern(text: str) -> ImagePattern:
    """Raises ValueError with a sentence for the operator."""
    name, tag, digest = split_reference(text)
    if "://" in text:
        raise ValueError(f"{quoted(text)} is not an image pattern: leave out what comes before :// and that too")
    if name != name.lower():
        raise ValueError(f"{quoted(text)} can match nothing: image names are lower-case")
    if "/" not in name and ("." in name or name == "localhost"):
        # To Docker it would be an official image of that name, which nobody means.
        raise ValueError(f'{quoted(text)} names a registry and no image: did you mean "{printable(name)}/**"?')
    domain, path = split_name(name)
    segments = path.split("/")
    if not _DOMAIN.fullmatch(domain) or "**" in domain:
        raise ValueError(f"{quoted(text)} is not an image pattern: before the first / must come a host name")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ValueError(f'{quoted(text)} is not an image pattern: write one like "nginx:1.*" or "registry.local/**"')
    if any("**" in segment and segment != "**" for segment in segments):
        raise ValueError(f'{quoted(text)} is not an image pattern: "**" stands for whole segments, as in "a/**"')
    if (tag is not None and not _TAG.fullmatch(tag)) or (digest is not None and not _DIGEST.fullmatch(digest)):
        raise ValueError(f"{quoted(text)} is not an image pattern: its tag or digest is not one")
    if tag is not None and digest is not None:
        raise ValueError(f"{quoted(text)} has tag and digest: the digest decides alone, leave the tag out")
    if segments[-1] == "**":
        # "team/**" is what is inside team, not team itself.
        segments.append("*")
    return ImagePattern(text, domain, tuple(segments), None if tag == "*" else tag, digest)


def _domain_matches(pattern: str, domain: str) -> bool:
    if pattern == domain:
        return True
    pattern_host, _, pattern_port = pattern.partition(":")
    host, _, port = domain.partition(":")
    if "[" in domain + pattern or not (pattern_port == port or (pattern_port == "*" and port)):
        return False
    wanted, labels = pattern_host.split("."), host.split(".")
    return len(wanted) == len(labels) and all(map(fnmatchcase, labels, wanted))


def _path_matches(pattern: Sequence[str], segments: Sequence[str]) -> bool:
    """Segment by segment; `**` is any number of them. Takes the back way only to the last `**`, so never long."""
    at, back, resume = 0, -1, 0
    position = 0
    while position < len(segments):
        if at < len(pattern) and pattern[at] == "**":
            back, resume = at, position
            at += 1
        elif at < len(pattern) and fnmatchcase(segments[position], pattern[at]):
            at, position = at + 1, position + 1
        elif back >= 0:
            resume += 1
            at, position = back + 1, resume
        else:
            return False
    return all(rest == "**" for rest in pattern[at:])


def _violation(on_violation: OnViolation, asked: str, own: str, allowed: Sequence[str]) -> ImageChoice:
    if on_violation == "substitute":
        return ImageChoice(
            own, f"The image {quoted(asked)} is not allowed here: the environment runs {printable(own, 60)} instead."
        )
    raise Refused(
        "image_not_allowed",
        f"The image {quoted(asked)} is not allowed here. Ask for one of: {listed([own, *allowed])}.",
    )
