"""`security:` of a template, from text to what it means. See docs/how-to/hardening.md."""

import posixpath
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator

from consumer.catalog import fields
from consumer.catalog.fields import UNLIMITED, Section, problem
from consumer.catalog.security import AS_IMAGE, CAPABILITIES, NON_ROOT, Security
from consumer.catalog.wording import did_you_mean, quoted

_IDS = re.compile(r"[0-9]{1,10}(:[0-9]{1,10})?")
_LARGEST_ID = 2**31 - 1
_PATH = re.compile(r"/[A-Za-z0-9._/@+-]{1,254}")
_SYSTEM = ("/proc", "/sys", "/dev")
_MAX_TMPFS = 16
_USUAL_TMPFS = {"/tmp": 64 * 1024**2}  # noqa: S108 - a path in the container


def _user(value: str) -> str:
    if value in (AS_IMAGE, NON_ROOT):
        return value
    if not _IDS.fullmatch(value):
        raise problem(f"{quoted(value)} is none of {AS_IMAGE}, {NON_ROOT} and a number (`1000`, `1000:1000`)")
    ids = [int(part) for part in value.split(":")]
    if max(ids) > _LARGEST_ID:
        raise problem(f"{quoted(value)} is larger than any user's number")
    return ":".join(map(str, ids))


def _capabilities(value: Any) -> tuple[str, ...]:
    kept = set()
    for index, written in enumerate(fields.text_list(value)):
        name = written.strip().upper().removeprefix("CAP_")
        if name not in CAPABILITIES:
            raise problem(f"{quoted(written)} cannot be given back{did_you_mean(name, CAPABILITIES)}", index)
        kept.add(name)
    return tuple(sorted(kept))


def _tmpfs(value: Any) -> Mapping[str, int]:
    sizes: dict[str, int] = {}
    for path, written in fields.texts(value).items():
        # The engine takes a comma for the end of an option, and resolves `..`.
        if not _PATH.fullmatch(path) or posixpath.normpath(path) != path:
            raise problem(f"{quoted(path)} is not a plain absolute path, such as /var/cache", path)
        if any(path == system or path.startswith(f"{system}/") for system in _SYSTEM):
            raise problem("belongs to the system: choose another path", path)
        size = fields.size(written)
        if not isinstance(size, int):
            raise problem(f"cannot be {UNLIMITED}: it lies in memory", path)
        sizes[path] = size
    if len(sizes) > _MAX_TMPFS:
        raise problem(f"lists {len(sizes)} paths; at most {_MAX_TMPFS} can be")
    return sizes


class SecuritySection(Section):
    """What of the hardening is loosened or tightened for a template's environments; all of it may be left out."""

    user: Annotated[str, AfterValidator(_user)] = AS_IMAGE
    capabilities: Annotated[tuple[str, ...], PlainValidator(_capabilities)] = ()
    new_privileges: bool = False
    read_only: bool = False
    tmpfs: Annotated[Mapping[str, int], PlainValidator(_tmpfs)] | None = None
    pids: Annotated[int, Field(ge=8, le=65_536)] | None = None
    open_files: Annotated[int, Field(ge=64, le=1_048_576)] | None = None

    def security(self) -> Security:
        """What provisioners get. A read-only container without a word about tmpfs can write to /tmp."""
        usual = _USUAL_TMPFS if self.read_only else {}
        return Security(
            user=self.user,
            capabilities=self.capabilities,
            new_privileges=self.new_privileges,
            read_only=self.read_only,
            tmpfs=usual if self.tmpfs is None else self.tmpfs,
            pids=self.pids,
            open_files=self.open_files,
        )
