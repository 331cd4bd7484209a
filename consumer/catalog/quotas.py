"""Quotas: how much may run at a time, of one user, of one template, and in all.

What is in use is counted elsewhere; here is what that means for one environment more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from consumer.catalog.bounds import CPU, MEMORY, Kind
from consumer.catalog.errors import Refused
from consumer.catalog.quota_section import Quota, Quotas


class Usage(NamedTuple):
    """What is in use, or would be: environments, CPU in millicores, memory in bytes."""

    environments: int = 0
    cpu_millis: int = 0
    memory_bytes: int = 0

    def plus(self, other: "Usage") -> "Usage":
        return Usage(
            self.environments + other.environments,
            self.cpu_millis + other.cpu_millis,
            self.memory_bytes + other.memory_bytes,
        )

    def minus(self, other: "Usage") -> "Usage":
        return Usage(
            self.environments - other.environments,
            self.cpu_millis - other.cpu_millis,
            self.memory_bytes - other.memory_bytes,
        )

    def within(self, other: "Usage") -> bool:
        return all(mine <= theirs for mine, theirs in zip(self, other, strict=True))


class Account(NamedTuple):
    """What is counted together: the environments of a user, of a template, or of both; None stands for all.

    Or those on one runtime, of all users and templates.
    """

    user: str | None
    template: str | None
    runtime: str | None = None


class Holding(NamedTuple):
    """What one reservation has, or asks for. `runtimes` is where it is, or any of those where it may come to be."""

    user: str
    template: str | None
    usage: Usage
    runtimes: tuple[str, ...] = ()

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Those it counts in."""
        return _accounts(self.user, self.template, self.runtimes)


@lru_cache(10_000)
def _accounts(user: str, template: str | None, runtimes: tuple[str, ...]) -> tuple[Account, ...]:
    found = [Account(None, None), Account(user, None)]
    if template is not None:
        found += [Account(None, template), Account(user, template)]
    if len(runtimes) == 1:
        found.append(Account(None, None, runtimes[0]))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Bound:
    """The quota of one account."""

    account: Account
    most: Quota

    def complaint(self, used: Usage, wanted: Usage) -> str | None:
        """Why there is no room for `wanted` beside what is `used`, as a sentence for the user; None if there is."""
        most = self.most
        if most.environments is not None and used.environments + wanted.environments > most.environments:
            return self._too_many(used.environments, most.environments)
        if most.cpu is not None and used.cpu_millis + wanted.cpu_millis > most.cpu:
            return self._too_much(CPU, used.cpu_millis, most.cpu, wanted.cpu_millis)
        if most.memory is not None and used.memory_bytes + wanted.memory_bytes > most.memory:
            return self._too_much(MEMORY, used.memory_bytes, most.memory, wanted.memory_bytes)
        return None

    def _too_many(self, used: int, most: int) -> str:
        kind = "" if self.account.template is None else " of this kind"
        environments = f"{most} environment{'' if most == 1 else 's'}{kind}"
        if self.account.user is None:
            return f"At most {environments} may run at a time, and {used} do: try again when another has ended."
        return f"You may have {environments} at a time, and have {used}: end another reservation first."

    def _too_much(self, kind: Kind, used: int, most: int, wanted: int) -> str:
        unit = " CPU" if kind is CPU else " of memory"
        needs, bound = f"This needs {kind.show(wanted)}{unit}", kind.show(most)
        where = "" if self.account.template is None else " for environments of this kind"
        if self.account.user is None:
            if wanted > most:
                return f"{needs}, and at most {bound} may be in use at a time{where}: ask for less."
            return f"{needs}, and {kind.show(used)} of {bound} are in use{where}: ask for less, or try again later."
        if wanted > most:
            return f"{needs}, and you may use {bound} at a time{where}: ask for less."
        return (
            f"{needs}, and you use {kind.show(used)} of your {bound}{where}: "
            "ask for less, or end another reservation first."
        )


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """All quotas of a catalog: those over everything, and each template's own over its environments."""

    common: Quotas = field(default_factory=Quotas)
    own: Mapping[str, Quotas] = field(default_factory=dict)
    capacities: Mapping[str, int] = field(default_factory=dict)
    """How many environments engines may have, by what they are called as runtimes."""

    def __bool__(self) -> bool:
        """Whether anything is bounded at all."""
        return bool(self.capacities) or any(each.bounds_anything for each in (self.common, *self.own.values()))

    def bounds(self, holding: Holding) -> Iterator[Bound]:
        """The quotas that an environment has to be within, the narrowest first."""
        user, template = holding.user, holding.template
        own = self.own.get(template, _NONE) if template is not None else _NONE
        for account, most in (
            (Account(user, template), own.user),
            (Account(user, None), self.common.user),
            (Account(None, template), own.total),
            (Account(None, None), self.common.total),
        ):
            if most.bounds_anything:
                yield Bound(account, most)

    def too_large(self, holding: Holding) -> str | None:
        """Why there would be no room even if nothing else was in use; None if there would."""
        return next(filter(None, (each.complaint(Usage(), holding.usage) for each in self.bounds(holding))), None)

    def queues(self, template: str | None) -> bool:
        """Whether a start by this template waits for room, instead of being refused."""
        own = self.own.get(template, _NONE).queue if template is not None else None
        return bool(self.common.queue if own is None else own)


_NONE = Quotas()


def refusal(complaint: str) -> Refused:
    """What a reservation is refused with for which there is no room."""
    return Refused("quota_exceeded", complaint)


def full() -> Refused:
    """What a reservation is refused with that quotas would let in, and no engine has room for."""
    message = "Everything that could run this is in use: try again when another reservation has ended."
    return Refused("no_capacity", message)
