"""What everything created carries, and how an environment is read back from it. No I/O here."""

from collections.abc import Mapping
from datetime import UTC, datetime

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import (
    CPU_MILLIS,
    EXPIRES_AT,
    INSTANCE,
    KEY,
    MANAGED_BY,
    MEMORY_BYTES,
    RESERVATION_ID,
    RESOURCE_ID,
    SPEC_HASH,
    TEMPLATE,
    USER_ID,
    USER_NAME,
    environment_labels,
)
from consumer.handling.errors import Permanent
from consumer.handling.ports import Environment, Status
from schemas.outbound import Access

_OURS = "moorage/"
_DIGITS = 19


def labels_of(spec: EnvironmentSpec, instance: str) -> dict[str, str]:
    """All labels of `spec`'s environment. What it is decides ours; a user's label can neither replace nor add one."""
    users = {label: value for label, value in spec.labels.items() if label != MANAGED_BY and not _is_ours(label)}
    ours = environment_labels(
        instance=instance,
        reservation_id=spec.reservation_id,
        user=spec.user,
        resource=spec.resource,
        template=spec.template,
        expires_at=spec.expires_at,
        access=spec.access,
        limits=spec.limits,
    )
    return users | ours | {KEY: spec.key, SPEC_HASH: spec.spec_hash}


def belongs_to(labels: Mapping[str, str], instance: str) -> bool:
    """Whether this installation made what carries `labels`: only then may it be touched."""
    return labels.get(MANAGED_BY) == "moorage" and labels.get(INSTANCE) == instance and KEY in labels


def refuse_foreign(labels: Mapping[str, str], instance: str, spec: EnvironmentSpec) -> None:
    """Raise `Permanent("conflict")` when something else than `spec`'s own environment has its name."""
    if not belongs_to(labels, instance) or labels[KEY] != spec.key:
        raise Permanent("conflict", f"The name {spec.name} belongs to something Moorage did not make.")


def refuse_other_spec(labels: Mapping[str, str], spec: EnvironmentSpec) -> None:
    """Raise `Permanent("conflict")` when the reservation's environment exists with other settings."""
    if labels.get(SPEC_HASH) != spec.spec_hash:
        raise Permanent("conflict", "This reservation already has an environment with other settings.")


def environment_of(
    labels: Mapping[str, str],
    *,
    runtime: str,
    name: str,
    native_id: str,
    status: Status,
    access: Access,
    image: str | None,
    image_digest: str | None = None,
) -> Environment:
    """An environment as its labels tell it."""
    return Environment(
        runtime=runtime,
        name=name,
        native_id=native_id,
        key=labels[KEY],
        reservation_id=labels.get(RESERVATION_ID, ""),
        resource_id=labels.get(RESOURCE_ID, ""),
        spec_hash=labels.get(SPEC_HASH, ""),
        status=status,
        access=access,
        image=image,
        image_digest=image_digest,
        user=labels.get(USER_NAME),
        user_id=labels.get(USER_ID),
        template=labels.get(TEMPLATE),
        cpu_millis=_number(labels.get(CPU_MILLIS)),
        memory_bytes=memory_limit_of(labels),
        expires_at=moment_of(labels.get(EXPIRES_AT)),
    )


def memory_limit_of(labels: Mapping[str, str]) -> int | None:
    """Bytes; None without a limit."""
    return _number(labels.get(MEMORY_BYTES))


def _is_ours(label: str) -> bool:
    return label.startswith(_OURS)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def moment_of(text: str | None) -> datetime | None:
    """The time in a label; None where there is none."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
