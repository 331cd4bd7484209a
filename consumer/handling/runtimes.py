"""The runtimes at hand, and what they show. Every look is bounded in time, and says who it was that did not answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Environment, Provisioner

T = TypeVar("T")

REASONS = {
    "release_timeout": "The runtime did not remove the environment in time.",
    "look_timeout": "The runtime did not say in time what it runs.",
    "runtime_not_configured": "The environment needs a runtime that this installation does not run.",
}

Silent = Mapping[str, ProvisionerError]
"""The runtimes that did not answer, and why."""


@dataclass(frozen=True, slots=True)
class Look:
    """What all runtimes showed that answered."""

    environments: tuple[Environment, ...]
    silent: Silent


class Runtimes(Mapping[str, Provisioner]):
    """By name. `patience` is the seconds that a look at one of them, or a removal, may take."""

    def __init__(self, provisioners: Mapping[str, Provisioner], *, patience: float) -> None:
        self._provisioners = provisioners
        self._patience = patience

    def __getitem__(self, name: str) -> Provisioner:
        return self._provisioners[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._provisioners)

    def __len__(self) -> int:
        return len(self._provisioners)

    def named(self, name: str) -> Provisioner:
        """Raises `Permanent` where there is none."""
        if (provisioner := self._provisioners.get(name)) is None:
            raise Permanent("runtime_not_configured", REASONS["runtime_not_configured"])
        return provisioner

    async def find(self, name: str, key: str, *, patience: float | None = None) -> Environment | None:
        """The environment of this key on one runtime."""
        provisioner = self.named(name)
        async with self._looking(patience):
            with naming(provisioner):
                return await provisioner.find(key)

    async def list(self, name: str, *, patience: float | None = None) -> list[Environment]:
        """All environments on one runtime."""
        provisioner = self.named(name)
        async with self._looking(patience):
            with naming(provisioner):
                return await provisioner.list()

    async def extend(self, name: str, key: str, until: datetime) -> bool:
        """Have the environment of this key on one runtime show this end."""
        provisioner = self.named(name)
        with naming(provisioner):
            async with at_most(self._patience, lambda: Unavailable(REASONS["look_timeout"])):
                return await provisioner.extend(key, until)

    async def remove(self, name: str, key: str) -> bool:
        """Remove everything of this key on one runtime."""
        provisioner = self.named(name)
        async with at_most(self._patience, lambda: Transient("release_timeout", REASONS["release_timeout"])):
            with naming(provisioner):
                return await provisioner.remove(key)

    async def search(
        self, names: Collection[str], key: str, *, patience: float | None = None
    ) -> tuple[dict[str, Environment], Silent]:
        """The environments of this key on several runtimes, by runtime."""
        answers = await _answers(names, [self.find(name, key, patience=patience) for name in names])
        found = {name: each for name, each in answers.items() if isinstance(each, Environment)}
        return found, _silent(answers)

    async def everything(self, *, patience: float | None = None) -> Look:
        """All environments of this installation."""
        answers = await _answers(self, [self.list(name, patience=patience) for name in self])
        shown = [each for each in answers.values() if not isinstance(each, ProvisionerError)]
        return Look(tuple(environment for each in shown for environment in each), _silent(answers))

    def _looking(self, patience: float | None) -> AbstractAsyncContextManager[None]:
        seconds = self._patience if patience is None else min(patience, self._patience)
        return at_most(seconds, lambda: Transient("look_timeout", REASONS["look_timeout"]))


async def _answers(names: Collection[str], asking: Sequence[Awaitable[T]]) -> dict[str, T | ProvisionerError]:
    """What each said, asked all at once: one in trouble must not keep the others from answering."""
    answers: dict[str, T | ProvisionerError] = {}
    for name, answer in zip(names, await asyncio.gather(*asking, return_exceptions=True), strict=True):
        if isinstance(answer, BaseException) and not isinstance(answer, ProvisionerError):
            raise answer
        answers[name] = answer
    return answers


def _silent(answers: Mapping[str, object]) -> Silent:
    return {name: each for name, each in answers.items() if isinstance(each, ProvisionerError)}


@contextmanager
def naming(provisioner: Provisioner) -> Iterator[None]:
    """Say which runtime it was that does not answer."""
    try:
        yield
    except Unavailable as error:
        error.runtime = error.runtime or provisioner.runtime
        raise


@asynccontextmanager
async def at_most(seconds: float, otherwise: Callable[[], ProvisionerError]) -> AsyncIterator[None]:
    """Raise what `otherwise` makes if the body takes longer."""
    if seconds <= 0:
        raise otherwise()
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise otherwise() from error
