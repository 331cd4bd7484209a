"""Talking to an engine over TCP so that both sides prove who they are."""

import re
import ssl
from pathlib import Path

_TCP = re.compile(r"(?:tcp|http)://")


def tls_context(folder: Path) -> ssl.SSLContext:
    """Trusts `ca.pem` alone, and shows `cert.pem` with `key.pem`: the files that the `docker` command reads too.

    Raises `ValueError` that names what cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=folder / "ca.pem")
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except FileNotFoundError as error:
        raise ValueError(f"{folder} must have ca.pem, cert.pem and key.pem; one of them is missing") from error
    except PermissionError as error:
        raise ValueError(f"a file in {folder} may not be read by this user") from error
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"the certificates in {folder} cannot be used: {error}") from error
    return context


def over_tls(url: str) -> str:
    """The address with TLS; what does not go over TCP stays as it is."""
    return _TCP.sub("https://", url, count=1)
