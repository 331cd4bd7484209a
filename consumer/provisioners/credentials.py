"""Logins for private registries, from a file as `docker login` writes it (`config.json`).

Nothing here shows a login: errors and logs name registries. Programs that keep logins (`credsStore`, `credHelpers`)
are not run: what a file names must not be executed by a service that may run as root.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from consumer.catalog.images import DEFAULT_DOMAIN, split_name, split_reference
from consumer.catalog.wording import printable

log = structlog.get_logger("moorage.registries")

_MOST_BYTES = 1_048_576
_DOCKER_HUB = frozenset({"index.docker.io", "registry-1.docker.io", DEFAULT_DOMAIN})

_KNOWN = frozenset({"auth", "username", "password", "identitytoken", "registrytoken"})

Login = Mapping[str, str]
"""The login in the words of the Docker Engine's API: user and password, or a token; and the registry it is for."""


class RegistryCredentials:
    """The logins of a file, which is read again when it has changed. Raises ValueError for one that is no such file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._logins = read_logins(path)

    def login_for(self, image: str) -> Login | None:
        """The login for the registry of `image`. Reads the file: not for the event loop's own thread.

        A file that has become unreadable is logged, and what it said before holds.
        """
        try:
            if (stamp := _stamp(self._path)) != self._stamp:
                self._logins = read_logins(self._path)
                self._stamp = stamp
        except ValueError as error:
            log.error("registry_credentials_unreadable", why=str(error))
        domain, _ = split_name(split_reference(image)[0])
        return self._logins.get(domain)


def read_logins(path: Path) -> Mapping[str, Login]:
    """The login for each registry (`host[:port]`) that the file has one for. Raises ValueError, for operators."""
    document = _document(path)
    entries = document.get("auths", {})
    if not isinstance(entries, dict):
        raise _not_docker(path, "its `auths` is not an object")
    logins: dict[str, Login] = {}
    for key, entry in entries.items():
        if not isinstance(entry, dict):
            raise _not_docker(path, f"its entry for {printable(key)} is not an object")
        if (login := _login(path, key, entry)) is not None:
            logins[_registry(key)] = login
    if helpers := [name for name in ("credsStore", "credHelpers") if document.get(name)]:
        if not logins:
            raise ValueError(
                f"{path.name} keeps its logins in a credential helper ({', '.join(helpers)}), which Moorage does not "
                "run. Give it a file that holds them: one that `docker --config DIR login` wrote without helpers."
            )
        log.warning("credential_helpers_ignored", names=helpers, logins_for=sorted(logins))
    return logins


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise _not_docker(path, "it is too large")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise _not_docker(path, "it is not JSON") from None
    if not isinstance(document, dict):
        raise _not_docker(path, "it is not an object")
    return document


def _login(path: Path, key: str, entry: Mapping[str, Any]) -> Login | None:
    """The login of one entry; None for an empty one, which says that a helper has it."""
    said = {name: value for name, value in entry.items() if value}
    if any(not isinstance(value, str) for name, value in said.items() if name in _KNOWN):
        raise _not_docker(path, f"its entry for {printable(key)} is not made of texts")
    for token in ("identitytoken", "registrytoken"):
        if token in said:
            return {token: said[token], "serveraddress": _registry(key)}
    if "auth" in said:
        return _named(path, key, *_decoded(path, key, said["auth"]))
    if "username" in said and "password" in said:
        return _named(path, key, said["username"], said["password"])
    if _KNOWN & set(said):
        raise _not_docker(path, f"its entry for {printable(key)} has half a login")
    return None


def _named(path: Path, key: str, username: str, password: str) -> Login:
    if not username:
        raise _not_docker(path, f"its entry for {printable(key)} names no user")
    return {"username": username, "password": password, "serveraddress": _registry(key)}


def _decoded(path: Path, key: str, auth: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = username = password = ""
    if not colon:
        raise _not_docker(path, f"the `auth` of {printable(key)} is not the Base64 of user:password")
    return username, password.rstrip("\0")


def _registry(key: str) -> str:
    """The registry of a key of `auths`, which may be the address of its API: `https://index.docker.io/v1/`."""
    host = key.partition("://")[2] or key
    host = host.partition("/")[0].lower()
    return DEFAULT_DOMAIN if host in _DOCKER_HUB else host


def _not_docker(path: Path, why: str) -> ValueError:
    return ValueError(f"{path.name} is not a config.json as `docker login` writes it: {why}.")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        shown = path.stat()
    except OSError:
        return None  # reading it says more
    return shown.st_mtime_ns, shown.st_size, shown.st_ino
