"""Public keys: what OpenSSH makes is taken, and nothing that a server would obey or refuse gets through."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.ssh_keys import MAX_KEY_LENGTH, KeyUnusable, read_public_key
from tests.catalog.reservations import attempt
from tests.services.ssh import KeyPair

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN4nvTtw3tEjf9D1JkZPnTsikTngiOf6QgRYrkGcgdzC"
BLOB = base64.b64decode(ED25519.split()[1])


def wire(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def line(*fields: bytes, named: str | None = None) -> str:
    return f"{named or fields[0].decode()} {base64.b64encode(wire(*fields)).decode()}"


def mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def rsa(bits: int, exponent: int = 65537) -> str:
    return line(b"ssh-rsa", mpint(exponent), mpint((1 << (bits - 1)) | 1))


@pytest.mark.parametrize(
    "arguments", ["-t ed25519", "-t ecdsa -b 256", "-t ecdsa -b 384", "-t ecdsa -b 521", "-t rsa -b 2048"]
)
def test_what_openssh_makes_is_taken_as_it_is(arguments: str, tmp_path: Path) -> None:
    pair = KeyPair.make(tmp_path / "id", arguments)

    key = read_public_key(pair.public)

    assert (key.line, key.fingerprint) == (pair.public.strip(), pair.fingerprint)


@pytest.mark.parametrize(
    "written",
    [
        line(b"sk-ssh-ed25519@openssh.com", b"\1" * 32, b"ssh:"),
        line(b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", b"\4" + b"\1" * 64, b"ssh:"),
    ],
)
def test_keys_of_security_tokens_are_taken(written: str) -> None:
    assert read_public_key(written).line == written


@pytest.mark.parametrize(
    ("comment", "kept"),
    [
        ("", ""),
        (" mario@laptop", " mario@laptop"),
        ("   two words ", " two-words"),
        (' no-pty,command="sh"', " no-pty-command-sh-"),
        (" \x1b[31mred\x00", " -31mred-"),
        (" " + "x" * 200, " " + "x" * 64),
        ("\r\n", ""),
    ],
)
def test_the_comment_is_made_harmless(comment: str, kept: str) -> None:
    assert read_public_key(ED25519 + comment).line == ED25519 + kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin"),
        ("ssh-ed25519", "says one type"),
        ("ssh-ed25519 ", "says one type"),
        (f"{ED25519}\n{ED25519}", "more than one line"),
        (f"{ED25519}\rssh-ed25519 x", "more than one line"),
        (f"{ED25519}\x85x", "more than one line"),
        (f'command="sh" {ED25519}', "does not begin"),
        (f"from=* {ED25519}", "does not begin"),
        (f"# {ED25519}", "does not begin"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "says one type"),
        (ED25519.replace(" ", "\t"), "does not begin"),
        (ED25519[:-4], "cut off"),
        (ED25519[:-1], "damaged"),
        ("ssh-ed25519 !!!!", "damaged"),
        ("ssh-ed25519 ÄÄÄÄ", "damaged"),
        (line(b"ssh-ed25519", b"\1" * 31), "damaged inside"),
        (line(b"ssh-ed25519", b"\1" * 32, b"more"), "damaged inside"),
        (line(b"ecdsa-sha2-nistp256", b"nistp384", b"\4" + b"\1" * 64), "damaged inside"),
        (line(b"ecdsa-sha2-nistp256", b"nistp256", b"\2" + b"\1" * 32), "damaged inside"),
        (line(b"sk-ssh-ed25519@openssh.com", b"\1" * 32, b""), "damaged inside"),
        (rsa(2047), "2047 bits: at least 2048"),
        (rsa(1024), "1024 bits"),
        (rsa(16_392), "more than 16384"),
        (rsa(2048, exponent=1), "damaged inside"),
        (line(b"ssh-rsa", b"\1\0\1", b"\xff" * 256), "damaged inside"),
        (line(b"ssh-rsa", b"\1\0\1", b"\0" * 200 + b"\xff" * 256), "damaged inside"),
        (line(b"ssh-dss", b"x"), "DSA"),
        (line(b"ssh-ed25519-cert-v01@openssh.com", b"x"), "certificate"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn", "private key"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA", "SSH2"),
        ("A" * (MAX_KEY_LENGTH + 1), "longer than"),
    ],
)
def test_what_is_no_usable_key_is_refused_with_what_to_do(text: str, message: str) -> None:
    with pytest.raises(KeyUnusable, match=message) as error:
        read_public_key(text)

    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200
    assert "AAAA" not in str(error.value)


@given(st.text() | st.builds(lambda blob: f"ssh-ed25519 {base64.b64encode(blob).decode()}", st.binary()))
def test_whatever_is_pasted_is_a_key_or_is_refused(text: str) -> None:
    attempt(lambda: read_public_key(text), KeyUnusable)


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255), st.text())
def test_what_is_taken_is_one_line_of_printable_characters(at: int, change: int, comment: str) -> None:
    blob = bytearray(BLOB)
    blob[at] ^= change
    text = f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}"

    key = attempt(lambda: read_public_key(text), KeyUnusable)

    if not isinstance(key, KeyUnusable):
        assert key.line.isascii()
        assert key.line.isprintable()
        assert key.line.split(" ")[:2] == text.split(" ")[:2]
