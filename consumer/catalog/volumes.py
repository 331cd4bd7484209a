"""The `volume` part of a template: data that outlives a container, and whose it is.

A volume is found again by its name, which comes from ids alone: names of people are sometimes missing from events.
"""

import hashlib
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, PlainValidator, model_validator

from consumer.catalog import fields
from consumer.catalog.access import absolute_path
from consumer.catalog.environment import Volume, VolumeAccess
from consumer.catalog.fields import Section, problem
from consumer.catalog.identity import (
    INSTANCE,
    KEY,
    MANAGED_BY,
    RESERVATION_ID,
    TEMPLATE,
    USER_ID,
    USER_NAME,
    reservation_key,
    slug,
)
from consumer.catalog.wording import quoted
from schemas.state import ReservationState

VOLUME = "moorage/volume"
VOLUME_SCOPE = "moorage/volume-scope"
RECLAIM = "moorage/reclaim"

Scope = Literal["user", "reservation"]
Reclaim = Literal["delete", "retain"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_SYSTEM = re.compile(r"/(?:bin|boot|dev|etc|lib\w*|proc|run|sbin|sys|usr)(?:/.*)?")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise problem(f"{quoted(value)} is not a name: use lower-case letters, digits and '-', at most 32")
    return value


def _path(value: Any) -> str:
    path = absolute_path(fields.text(value))
    if _SYSTEM.fullmatch(path):
        raise problem(f"{quoted(path)} belongs to the image's system: choose a directory for data, as /home/student")
    return path


def _size(value: Any) -> int:
    if not isinstance(size := fields.size(value), int):
        raise problem("cannot be unlimited: leave it out for a volume without a bound")
    return size


class VolumeSection(Section):
    """A volume for each user or each reservation, and what becomes of it when the environment goes."""

    path: Annotated[str, PlainValidator(_path)]
    scope: Scope = "reservation"
    reclaim: Reclaim | None = None
    name: Annotated[str, AfterValidator(_name)] | None = None
    size: Annotated[int | None, PlainValidator(_size)] = None
    storage_class: Annotated[str, AfterValidator(fields.object_name)] | None = None
    access_mode: VolumeAccess | None = None

    @property
    def what_becomes(self) -> Reclaim:
        return self.reclaim or ("retain" if self.scope == "user" else "delete")

    @property
    def of_clusters(self) -> str | None:
        """Which of its keys only the claims of a cluster have, if one does."""
        return next((name for name in ("storage_class", "access_mode") if getattr(self, name) is not None), None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scope == "user" and self.reclaim == "delete":
            why = "a user's volume is there for the next reservation, so no end is the last one"
            raise problem(f"{why}: write retain, or `scope: reservation`", "reclaim")
        return self


def volume_for(section: VolumeSection, template: str, state: ReservationState, *, instance: str) -> Volume:
    """The volume of a reservation.

    A user's is the same in all templates that give it one name; without, each template has its own. A reservation's is
    its user's alone too: who a reservation is handed to does not find the data of who had it before.
    """
    called = section.name or template
    whose = "" if section.scope == "user" else state.reservation_id
    parts = (instance, section.scope, state.user.id, whose, called)
    digest = hashlib.sha256(b"\xff".join(part.encode("utf-8", "surrogatepass") for part in parts)).hexdigest()
    labels = {
        MANAGED_BY: "moorage",
        INSTANCE: instance,
        VOLUME: digest[:32],
        VOLUME_SCOPE: section.scope,
        RECLAIM: section.what_becomes,
        USER_ID: state.user.id,
        USER_NAME: state.user.name or state.user.id,
        TEMPLATE: template,
    }
    if section.scope == "reservation":
        labels |= {KEY: reservation_key(instance, state.reservation_id), RESERVATION_ID: state.reservation_id}
    name = f"v-{slug(state.user.id)}-{slug(called)}-{digest[:10]}"
    return Volume(name, digest[:32], section.path, labels, section.size, section.storage_class, section.access_mode)
