"""The `access` part of a template: which ports mean something to people, and whose SSH key is let in where."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import PlainValidator, model_validator

from consumer.catalog import fields
from consumer.catalog.environment import AccessHints
from consumer.catalog.errors import Refused
from consumer.catalog.fields import Section, problem
from consumer.catalog.ssh_keys import KeyUnusable, Login, read_public_key
from consumer.catalog.wording import quoted
from schemas.events import User

# It goes into an ssh line that people paste: it must not read as an option.
_SSH_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_OWNER = re.compile(r"([0-9]{1,9})(?::([0-9]{1,9}))?")


def _home(value: Any) -> str:
    return absolute_path(fields.text(value))


def _owner(value: Any) -> tuple[int, int]:
    found = _OWNER.fullmatch(fields.text(value).strip())
    if found is None:
        raise problem(f'{quoted(value)} is not a user id: write "1000", or with a group "1000:100"')
    return int(found[1]), int(found[2] or found[1])


class AccessSection(Section):
    """Which ports mean something to people. Ports named here are published, listed or not."""

    http: Annotated[int | Literal["none"] | None, PlainValidator(fields.port_or_none)] = None
    ssh: Annotated[int | Literal["none"] | None, PlainValidator(fields.port_or_none)] = None
    ssh_user: str | None = None
    ssh_key: Literal["optional", "required", "none"] = "optional"
    """What becomes of the user's public key: installed if there is a usable one, insisted on, or left alone."""

    ssh_home: Annotated[str | None, PlainValidator(_home)] = None
    ssh_owner: Annotated[tuple[int, int] | None, PlainValidator(_owner)] = None

    @property
    def installs_key(self) -> bool:
        return self.ssh_user is not None and self.ssh_key != "none"

    @property
    def hints(self) -> AccessHints:
        """Only what the template says itself."""
        http, ssh = (port if isinstance(port, int) else None for port in (self.http, self.ssh))
        return AccessHints(http_port=http, ssh_port=ssh, ssh_user=self.ssh_user)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ssh_user is not None and not _SSH_USER.fullmatch(self.ssh_user):
            raise problem(f"{quoted(self.ssh_user)} is not a login name", "ssh_user")
        if self.ssh_user is not None and not isinstance(self.ssh, int):
            raise problem("is given but ssh is not: add the port, `ssh: 22`", "ssh_user")
        for name in ("ssh_key", "ssh_home", "ssh_owner"):
            if name in self.model_fields_set and self.ssh_user is None:
                raise problem("is given but ssh_user is not: add the account, `ssh_user: student`", name)
        for name in ("ssh_home", "ssh_owner"):
            if name in self.model_fields_set and self.ssh_key == "none":
                raise problem("means nothing with `ssh_key: none`: leave it out", name)
        return self


def absolute_path(value: str) -> str:
    """`value` when it is a plain absolute path, without a slash at its end. Raises the problem that it is none."""
    if not value.startswith("/"):
        raise problem(f"{quoted(value)} is not an absolute path: begin it with /")
    parts = value.strip("/").split("/")
    if not value.isprintable() or ":" in value or {"", ".", ".."} & set(parts):
        raise problem(f"{quoted(value)} is not a plain path below /: write it without '.', '..', '//' and ':'")
    return "/" + "/".join(parts)


def login_for(access: AccessSection, user: User) -> tuple[Login | None, str | None]:
    """Whom to let in with which key, or else a sentence for the user on why nobody is; neither if nobody shall be.

    Raises `Refused` where the template insists: `ssh_key_missing`, `ssh_key_invalid`.
    """
    if access.ssh_user is None or not access.installs_key:
        return None, None
    required = access.ssh_key == "required"
    if not (user.ssh_public_key or "").strip():
        if required:
            raise Refused("ssh_key_missing", "This resource needs your SSH public key: add it to your profile first.")
        return None, "No SSH public key of yours is known, so none was installed: add one to your profile."
    try:
        key = read_public_key(user.ssh_public_key or "")
    except KeyUnusable as why:
        if required:
            raise Refused("ssh_key_invalid", f"Your SSH key {why}. Correct it in your profile first.") from None
        return None, f"Your SSH key was not installed, because it {why}."
    return Login(key, access.ssh_user, access.ssh_home, access.ssh_owner, required), None
