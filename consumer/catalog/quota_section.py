"""Quotas as operators write them in the template file."""

import re
from typing import Annotated, Any

from pydantic import PlainValidator

from consumer.catalog import fields
from consumer.catalog.fields import Section, problem
from consumer.catalog.wording import quoted

_COUNT = re.compile(r"[1-9][0-9]{0,8}")


def environment_count(value: Any) -> int:
    """A number of environments, 1 or more."""
    if not _COUNT.fullmatch(fields.text(value)):
        raise problem(f"{quoted(value)} is not a number of environments: write 1 or more, or leave the key out")
    return int(value)


class Quota(Section):
    """The most that may be in use at a time: environments, CPU in millicores, memory in bytes; None is no bound."""

    environments: Annotated[int | None, PlainValidator(environment_count)] = None
    cpu: Annotated[int | None, PlainValidator(fields.stated(fields.cpu))] = None
    memory: Annotated[int | None, PlainValidator(fields.stated(fields.size))] = None

    @property
    def bounds_anything(self) -> bool:
        return self != Quota()


class Quotas(Section):
    """What each user may have, and what all of them together.

    `queue` says whether a start waits for room; None is to do as the file says for all templates.
    """

    user: Quota = Quota()
    total: Quota = Quota()
    queue: bool | None = None

    @property
    def bounds_anything(self) -> bool:
        return self.user.bounds_anything or self.total.bounds_anything
