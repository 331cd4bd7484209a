"""SSH public keys: what people paste, reduced to one line that is safe in an `authorized_keys` file.

The line is written anew from what the key's own bytes say. So nothing that a server would obey gets through: no options
(`command=…`), no second line, no type that differs from the key's.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

MAX_KEY_LENGTH = 8192
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16_384
"""The largest that OpenSSH itself takes."""

_MAX_COMMENT = 64
_NOT_IN_COMMENTS = re.compile(r"[^A-Za-z0-9@._+-]+")
_FORM = "paste one line as in ~/.ssh/id_ed25519.pub"


class KeyUnusable(ValueError):
    """The text is no key that lets anybody in. The message completes "your SSH key …" and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A checked key. `line` is what goes into `authorized_keys`, `fingerprint` what `ssh-keygen -l` shows."""

    type: str
    line: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Login:
    """A key to let in to an account. What is not given of the account is looked up in the image.

    `owner` are uid and gid. `required` tells that the environment is of no use without.
    """

    key: PublicKey
    user: str
    home: str | None = None
    owner: tuple[int, int] | None = None
    required: bool = False


def read_public_key(text: str) -> PublicKey:
    """The key that `text` holds. Raises `KeyUnusable`."""
    if len(text) > MAX_KEY_LENGTH:
        raise KeyUnusable(f"is longer than {MAX_KEY_LENGTH} characters")
    text = text.strip()
    if "PRIVATE KEY" in text:
        raise KeyUnusable("is a private key: make a new pair, and give away only the .pub file")
    if text.startswith("---- BEGIN SSH2"):
        raise KeyUnusable("is in the SSH2 format: convert it with `ssh-keygen -i`")
    if len(text.splitlines()) > 1:
        raise KeyUnusable(f"has more than one line: {_FORM}")
    named, _, rest = text.partition(" ")
    encoded, _, comment = rest.strip().partition(" ")
    if (check := _TYPES.get(named)) is None:
        raise KeyUnusable(_unknown_type(named))
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise KeyUnusable(f"is damaged: {_FORM}") from None
    fields = list(_fields(blob))
    if not fields or fields[0] != named.encode():
        raise KeyUnusable("says one type and holds another: copy it again")
    check(fields[1:])
    words = [named, base64.b64encode(blob).decode(), _NOT_IN_COMMENTS.sub("-", comment.strip())[:_MAX_COMMENT]]
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return PublicKey(named, " ".join(filter(None, words)), f"SHA256:{digest}")


def _unknown_type(named: str) -> str:
    if named == "ssh-dss":
        return "is a DSA key, which servers no longer accept: make an ed25519 one"
    if "-cert-v" in named:
        return f"is a certificate: {_FORM}"
    return f"does not begin with the type of a key that is accepted ({', '.join(_SHORT_NAMES)}): {_FORM}"


def _fields(blob: bytes) -> Iterator[bytes]:
    """The length-prefixed strings of RFC 4251 that `blob` is made of."""
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 or len(blob) < 4 + length:
            raise KeyUnusable("is cut off: copy all of it")
        yield blob[4 : 4 + length]
        blob = blob[4 + length :]


def _ed25519(fields: list[bytes]) -> None:
    _shaped(len(fields) == 1 and len(fields[0]) == 32)


def _sk_ed25519(fields: list[bytes]) -> None:
    _shaped(len(fields) == 2 and len(fields[0]) == 32 and len(fields[1]) > 0)


def _ecdsa(curve: str, coordinate: int) -> Callable[[list[bytes]], None]:
    def check(fields: list[bytes]) -> None:
        _shaped(len(fields) == 2)
        _point(fields[0], fields[1], curve, coordinate)

    return check


def _sk_ecdsa(fields: list[bytes]) -> None:
    _shaped(len(fields) == 3 and len(fields[2]) > 0)
    _point(fields[0], fields[1], "nistp256", 32)


def _point(named: bytes, point: bytes, curve: str, coordinate: int) -> None:
    # An uncompressed point; compressed ones are not part of SSH.
    _shaped(named == curve.encode() and len(point) == 1 + 2 * coordinate and point[0] == 4)


def _rsa(fields: list[bytes]) -> None:
    _shaped(len(fields) == 2 and all(map(_is_positive, fields)))
    exponent, modulus = (int.from_bytes(field, "big") for field in fields)
    if modulus.bit_length() < MIN_RSA_BITS:
        raise KeyUnusable(f"is an RSA key of {modulus.bit_length()} bits: at least {MIN_RSA_BITS} are needed")
    if modulus.bit_length() > MAX_RSA_BITS:
        raise KeyUnusable(f"is an RSA key of more than {MAX_RSA_BITS} bits, which servers do not accept")
    _shaped(exponent >= 3 and exponent % 2 == 1 and modulus % 2 == 1)


def _is_positive(number: bytes) -> bool:
    """Whether an `mpint` is above zero and written as short as can be."""
    return bool(number) and number[0] < 0x80 and (number[0] > 0 or (len(number) > 1 and number[1] >= 0x80))


def _shaped(right: bool) -> None:
    if not right:
        raise KeyUnusable("is damaged inside: copy it again")


_TYPES: Mapping[str, Callable[[list[bytes]], None]] = MappingProxyType(
    {
        "ssh-ed25519": _ed25519,
        "ecdsa-sha2-nistp256": _ecdsa("nistp256", 32),
        "ecdsa-sha2-nistp384": _ecdsa("nistp384", 48),
        "ecdsa-sha2-nistp521": _ecdsa("nistp521", 66),
        "ssh-rsa": _rsa,
        "sk-ssh-ed25519@openssh.com": _sk_ed25519,
        "sk-ecdsa-sha2-nistp256@openssh.com": _sk_ecdsa,
    }
)
_SHORT_NAMES = ("ssh-ed25519", "ecdsa-sha2-nistp…", "ssh-rsa", "sk-…@openssh.com")
