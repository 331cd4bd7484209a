"""`ingress:` and `gateway:` of a template's `kubernetes:`, from text to what they mean. No I/O here."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator

from consumer.catalog import fields
from consumer.catalog.fields import Section, problem
from consumer.catalog.identity import LONGEST_NAME, NAMESPACE
from consumer.catalog.routes import NAME, Gateway, Ingress
from consumer.catalog.wording import quoted

_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_LONGEST_LABEL, _LONGEST_HOST = 63, 253
_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/){_LABEL}(?:\.{_LABEL})*/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,61}}[A-Za-z0-9])?")
_CLASS = "kubernetes.io/ingress.class"
_MOST_ANNOTATIONS, _LONGEST_ANNOTATION = 32, 4096
_TLS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _host(value: str) -> str:
    if value.count(NAME) != 1 or NAME not in value.partition(".")[0]:
        raise problem(f'{quoted(value)} must have {NAME} in its first part, and only there: "{NAME}.labs.example.org"')
    host = value.replace(NAME, "n" * LONGEST_NAME)
    if not _HOST.fullmatch(host):
        raise problem(f'{quoted(value)} is not a host name in lower case with a domain, such as "{NAME}.example.org"')
    if len(host) > _LONGEST_HOST or max(map(len, host.split("."))) > _LONGEST_LABEL:
        room = f"a part may have {_LONGEST_LABEL} characters, all of it {_LONGEST_HOST}"
        raise problem(f"{quoted(value)} is too long with a name of {LONGEST_NAME} characters in it: {room}")
    return value


def _tls(value: Any) -> bool | str:
    text = fields.text(value)
    return _TLS[text.lower()] if text.lower() in _TLS else fields.object_name(text)


def _annotations(value: Any) -> Mapping[str, str]:
    annotations = fields.texts(value)
    for key, text in annotations.items():
        if not _KEY.fullmatch(key):
            raise problem("is not the name of an annotation, such as nginx.ingress.kubernetes.io/proxy-body-size", key)
        if key.startswith("moorage/"):
            raise problem("is what Moorage sets itself: choose another", key)
        if key == _CLASS:
            raise problem("is the old way to say it: write `class_name`", key)
        if len(text) > _LONGEST_ANNOTATION:
            raise problem(f"is longer than {_LONGEST_ANNOTATION} characters", key)
    if len(annotations) > _MOST_ANNOTATIONS:
        raise problem(f"lists {len(annotations)}; at most {_MOST_ANNOTATIONS} can be")
    return annotations


_Host = Annotated[str, AfterValidator(_host)]
_Object = Annotated[str, AfterValidator(fields.object_name)]
_Annotations = Annotated[Mapping[str, str], PlainValidator(_annotations)]


class IngressSection(Section):
    """Pages by an Ingress. `tls` is `true` for the controller's own certificate, or the name of a Secret with one."""

    host: _Host
    class_name: _Object | None = None
    tls: Annotated[bool | str, PlainValidator(_tls)] = False
    annotations: _Annotations = Field(default_factory=dict)

    def route(self) -> Ingress:
        return Ingress(
            host=self.host,
            https=self.tls is not False,
            annotations=self.annotations,
            class_name=self.class_name,
            secret=self.tls if isinstance(self.tls, str) else None,
        )


class GatewaySection(Section):
    """Pages by an HTTPRoute to the Gateway `name`. `tls` says that its listener has a certificate."""

    host: _Host
    name: _Object
    namespace: Annotated[str, fields.like(NAMESPACE, "is not the name of a namespace")] | None = None
    section: _Object | None = None
    tls: bool = False
    annotations: _Annotations = Field(default_factory=dict)

    def route(self) -> Gateway:
        return Gateway(
            host=self.host,
            https=self.tls,
            annotations=self.annotations,
            name=self.name,
            namespace=self.namespace,
            section=self.section,
        )
