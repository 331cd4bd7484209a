"""What everything of an environment carries: labels that the API can select by, and annotations that hold the rest.

A label's value is at most 63 characters of a small alphabet, and people are called anything: what is told of an
environment is read from annotations, what finds it are hashes.
"""

import hashlib
import re
from collections.abc import Mapping

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import IMAGE, INSTANCE, KEY, MANAGED_BY, SPEC_HASH, TEMPLATE, slug
from consumer.catalog.wording import quoted
from consumer.handling.errors import Permanent
from consumer.provisioners.kubernetes.kinds import Object
from consumer.provisioners.labels import labels_of

_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_OUR_LABELS = (MANAGED_BY, KEY, SPEC_HASH, TEMPLATE)


def label_value(text: str) -> str:
    """`text` as the value of a label: itself if it can be one, else what is left of it and a hash."""
    if _VALUE.fullmatch(text):
        return text
    return f"{slug(text, 40)}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"


def labels_for(spec: EnvironmentSpec, instance: str) -> dict[str, str]:
    """The labels of all objects of `spec`'s environment. Raises `Permanent("invalid_spec")`."""
    facts = labels_of(spec, instance)
    users = {name: value for name, value in spec.labels.items() if not name.startswith("moorage/")}
    if wrong := next((name for name in users if not _is_key(name)), None):
        raise Permanent("invalid_spec", f"{quoted(wrong)} cannot be the name of a label in Kubernetes.")
    ours = {name: label_value(facts[name]) for name in _OUR_LABELS}
    valid = {name: value for name, value in users.items() if _VALUE.fullmatch(value)}
    return valid | ours | {INSTANCE: label_value(instance), "app.kubernetes.io/managed-by": "moorage"}


def annotations_for(spec: EnvironmentSpec, instance: str) -> dict[str, str]:
    """Everything that is told of `spec`'s environment, as it is."""
    return labels_of(spec, instance) | {IMAGE: spec.image}


def facts_of(shown: Object) -> Mapping[str, str]:
    """What an object tells of its environment: its annotations where it has the labels of one of ours, else nothing."""
    about = shown["metadata"]
    labels, annotations = about.get("labels") or {}, about.get("annotations") or {}
    ours = labels.get(MANAGED_BY) == "moorage" and KEY in labels and labels[KEY] == annotations.get(KEY)
    return annotations if ours else {}


def selector(instance: str, key: str | None = None, **more: str) -> str:
    """What selects the objects of one installation, or of one environment of it."""
    labels = {MANAGED_BY: "moorage", INSTANCE: label_value(instance)} | ({KEY: key} if key else {}) | more
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _is_key(name: str) -> bool:
    prefix, slash, rest = name.rpartition("/")
    return _NAME.fullmatch(rest) is not None and (not slash or _PREFIX.fullmatch(prefix) is not None)
