"""Letting a user in by SSH: their public key, put into a container before it starts."""

import re

import structlog

from consumer.catalog.ssh_keys import Login
from consumer.handling.errors import Permanent, Transient
from consumer.provisioners.docker.archives import Account, key_archive
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.docker.errors import Missing, ReadOnly

_PASSWD_BYTES = 1024 * 1024
_ID = re.compile(r"[0-9]{1,9}")

log = structlog.get_logger("moorage.docker")


async def install_key(engine: Engine, container_id: str, login: Login) -> str | None:
    """Let `login` in to a container that has not been started. None, or a sentence on why that cannot be.

    What `authorized_keys` held before, in the image or in a volume, is replaced: whose key is no longer in the
    profile does not get in. Raises `Permanent("ssh_key_not_installed")` where the environment is of no use without.
    """
    account = await _account(engine, container_id, login)
    if account is None:
        return _not_installed(login, f"the image has no account {login.user}")
    try:
        await _put(engine, container_id, account, login.key.line)
    except ReadOnly:
        return _not_installed(login, "the environment's files are read-only there")
    except Missing as error:
        raise Transient("runtime_error", "The container vanished while it was being prepared.") from error
    log.info("ssh_key_installed", container=container_id[:12], user=login.user, fingerprint=login.key.fingerprint)
    return None


def account_in(passwd: str, user: str) -> Account | None:
    """The account of `user` in the text of an `/etc/passwd`; None without one, or if nobody could log in to it."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) != 7 or fields[0] != user:
            continue
        uid, gid, home = fields[2], fields[3], fields[5]
        if _ID.fullmatch(uid) and _ID.fullmatch(gid) and home.startswith("/") and home.isprintable():
            return Account(home, int(uid), int(gid))
        return None
    return None


async def _account(engine: Engine, container_id: str, login: Login) -> Account | None:
    if login.home is not None and login.owner is not None:
        return Account(login.home, *login.owner)
    passwd = await engine.read_file(container_id, "/etc/passwd", _PASSWD_BYTES)
    found = account_in((passwd or b"").decode("utf-8", "replace"), login.user)
    if found is None and login.user == "root":
        # The one account that is there without being listed.
        found = Account("/root", 0, 0)
    if found is None:
        return None
    uid, gid = login.owner or (found.uid, found.gid)
    return Account(login.home or found.home, uid, gid)


async def _put(engine: Engine, container_id: str, account: Account, line: str) -> None:
    try:
        await engine.extract(container_id, account.home, key_archive(account, line))
    except Missing:
        # The account has no home yet; it gets one.
        await engine.extract(container_id, "/", key_archive(account, line, below=account.home.strip("/")))


def _not_installed(login: Login, why: str) -> str:
    if login.required:
        raise Permanent("ssh_key_not_installed", f"The SSH key cannot be installed: {why}.")
    return f"Your SSH key was not installed: {why}."
