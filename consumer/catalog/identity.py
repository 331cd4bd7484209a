"""Identity, names and labels: how an environment is found again, and by whom it may be touched.

Identity is the reservation, never user and resource: a late END must not end the next booking.
"""

import hashlib
import re
import unicodedata
from datetime import datetime

from consumer.catalog.environment import AccessHints, Limits
from schemas.events import Resource, User

MANAGED_BY = "managed-by"
INSTANCE = "moorage/instance"
KEY = "moorage/reservation"
RESERVATION_ID = "moorage/reservation-id"
USER_ID = "moorage/user-id"
USER_NAME = "moorage/user"
RESOURCE_ID = "moorage/resource-id"
RESOURCE_NAME = "moorage/resource"
TEMPLATE = "moorage/template"
CPU_MILLIS = "moorage/cpu-millis"
MEMORY_BYTES = "moorage/memory-bytes"
SPEC_HASH = "moorage/spec-hash"
EXPIRES_AT = "moorage/expires-at"
IMAGE = "moorage/image"
IMAGE_DIGEST = "moorage/image-digest"
HTTP_PORT = "moorage/http-port"
SSH_PORT = "moorage/ssh-port"
SSH_USER = "moorage/ssh-user"

LONGEST_NAME = 40
"""Characters that an environment's name has at most."""

NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""What the name of a namespace of a Kubernetes cluster is like (a DNS label, RFC 1123)."""

_NOT_SAFE = re.compile(r"[^a-z0-9]+")


def reservation_key(instance: str, reservation_id: str) -> str:
    """The label value that finds an environment: 32 hex digits over instance and reservation.

    The instance is part of it, so two installations on one engine never see each other's environments.
    """
    # Lone surrogates come out of some JSON parsers; an id that cannot be hashed could never be released.
    parts = (text.encode("utf-8", "surrogatepass") for text in (instance, reservation_id))
    return hashlib.sha256(b"\xff".join(parts)).hexdigest()[:32]


def slug(text: str, limit: int = 12) -> str:
    """`text` as lower-case ASCII letters, digits and single dashes, at most `limit` characters; `x` when empty."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return _NOT_SAFE.sub("-", ascii_text).strip("-")[:limit].strip("-") or "x"


def environment_name(instance: str, reservation_id: str, user: User, resource: Resource) -> str:
    """`r-{user}-{resource}-{hash}`: at most 40 characters, safe as DNS label, container, domain and server name."""
    digest = reservation_key(instance, reservation_id)[:10]
    return f"r-{slug(user.name or user.id)}-{slug(resource.name or resource.id)}-{digest}"


def environment_labels(
    *,
    instance: str,
    reservation_id: str,
    user: User,
    resource: Resource,
    template: str,
    expires_at: datetime,
    access: AccessHints,
    limits: Limits,
) -> dict[str, str]:
    """The labels everything created carries. `moorage/spec-hash` is added by the provisioner, from the spec."""
    facts = {
        HTTP_PORT: access.http_port,
        SSH_PORT: access.ssh_port,
        SSH_USER: access.ssh_user,
        CPU_MILLIS: limits.cpu_millis,
        MEMORY_BYTES: limits.memory_bytes,
    }
    return {
        MANAGED_BY: "moorage",
        INSTANCE: instance,
        KEY: reservation_key(instance, reservation_id),
        RESERVATION_ID: reservation_id,
        USER_ID: user.id,
        USER_NAME: user.name or user.id,
        RESOURCE_ID: resource.id,
        RESOURCE_NAME: resource.name or resource.id,
        TEMPLATE: template,
        EXPIRES_AT: expires_at.isoformat(),
    } | {label: str(value) for label, value in facts.items() if value is not None}
