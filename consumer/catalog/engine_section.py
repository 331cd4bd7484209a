"""`engines:` of the template file: engines and clusters beside those of the settings, each by a name of its own."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, PlainValidator, model_validator

from consumer.catalog import fields
from consumer.catalog.environment import ServiceType
from consumer.catalog.fields import Section, problem
from consumer.catalog.identity import NAMESPACE
from consumer.catalog.quota_section import environment_count
from consumer.catalog.wording import quoted

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}|[0-9A-Fa-f:.]{2,45}")
_SOCKET = re.compile(r"unix:///.+")
_AWAY = re.compile(r"(?:tcp|http|https|ssh)://.+")
_SERVER = re.compile(r"https://[A-Za-z0-9\[][^\s@]*")
_TLS = ("tcp://", "https://")

_OF_ENGINES = ("url", "tls", "bind_host")
_OF_CLUSTERS = ("kubeconfig", "context", "namespace", "service", "storage_class", "public_server")


def _url(value: str) -> str:
    if not (_SOCKET.fullmatch(value) or _AWAY.fullmatch(value)):
        raise problem(f"{quoted(value)} is not an address such as unix:///run/docker.sock or tcp://gpu-1:2376")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise problem(f"{quoted(value)} has no host and port that can be read") from None
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise problem("holds a login: the file is no place for one; name a folder with certificates as `tls`")
    return value.rstrip("/")


def _path(value: Any) -> Path:
    path = Path(fields.text(value))
    if not path.is_absolute():
        raise problem(f"{quoted(str(path))} is not an absolute path: begin it with /")
    return path


def _context(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise problem("is empty or holds control characters")
    return value


_Name = Annotated[str, fields.like(_NAME, "is not a name: use lower-case letters, digits, '.' and '-', at most 63")]
_Host = Annotated[str, fields.like(_HOST, "is neither a host name nor an address")]
_Server = Annotated[str, fields.like(_SERVER, "is not the URL of an API server, such as https://west.example.org:6443")]
_Namespace = Annotated[
    str, fields.like(NAMESPACE, "is not a namespace: use lower-case letters, digits and '-', at most 63")
]


class EngineSection(Section):
    """One engine, or one namespace of a cluster. `capacity` is how many environments it may have at a time.

    `tls` is a folder with ca.pem, cert.pem and key.pem. Ports are opened on `bind_host`. Users are told `public_host`,
    or the engine's own machine, unless it is this one; of a cluster it is what they are told for node ports. A cluster
    is reached by the login of the settings where neither `kubeconfig` nor `context` says otherwise.
    """

    name: _Name
    runtime: Literal["docker", "podman", "kubernetes"]
    url: Annotated[str, AfterValidator(_url)] | None = None
    capacity: Annotated[int, PlainValidator(environment_count)]
    tls: Annotated[Path | None, PlainValidator(_path)] = None
    bind_host: _Host | None = None
    public_host: _Host | None = None
    kubeconfig: Annotated[Path | None, PlainValidator(_path)] = None
    context: Annotated[str, AfterValidator(_context)] | None = None
    namespace: _Namespace | None = None
    service: ServiceType | None = None
    storage_class: Annotated[str, AfterValidator(fields.object_name)] | None = None
    public_server: _Server | None = None

    @property
    def full_name(self) -> str:
        """What it is called as a runtime: in results, metrics and logs."""
        return engine_name(self.runtime, self.name)

    @property
    def host(self) -> str | None:
        """The machine it is on; None for this one."""
        return urlsplit(self.url).hostname if self.url is not None else None

    @property
    def is_cluster(self) -> bool:
        return self.runtime == "kubernetes"

    @model_validator(mode="after")
    def _keys_suit_the_runtime(self) -> Self:
        kind, others = (
            ("container engines", _OF_ENGINES) if self.is_cluster else ("clusters (kubernetes)", _OF_CLUSTERS)
        )
        for key in others:
            if getattr(self, key) is not None:
                raise problem(f"is for {kind}, and the runtime is {self.runtime}: leave it out", key)
        if self.url is None and not self.is_cluster:
            raise problem("is missing: add it", "url")
        return self

    @model_validator(mode="after")
    def _tls_is_of_use(self) -> Self:
        if self.tls is not None and self.url is not None and not self.url.startswith(_TLS):
            raise problem("is for an engine on TCP: leave it out, or write the url as tcp://host:2376", "tls")
        return self


def engine_name(runtime: str, name: str) -> str:
    """The runtime that an engine of this name is: `docker@gpu-1`."""
    return f"{runtime}@{name}"
