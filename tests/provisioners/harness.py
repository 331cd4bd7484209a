"""What the conformance suite needs to know about a runtime; one subclass a runtime."""

import asyncio
import urllib.request
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from consumer.catalog.environment import AccessHints, EnvironmentSpec, Limits, Port
from consumer.catalog.identity import environment_labels, environment_name, reservation_key
from consumer.handling.ports import Environment, Progress, Provisioner
from schemas.events import Resource, User
from tests.provisioners.elsewhere import Order, carry_out

ALICE = User("u-1", "Alice Ö'Hara <b>", "alice@example.org")
GPU = Resource("7", "gpu-01", "GPU server")
UNTIL = datetime(2030, 5, 17, 12, 0, tzinfo=UTC)
WEB_PORT = 8080


def ignore(_: Progress) -> None:
    """A report that nobody reads."""


async def fetch(url: str, within: float = 30.0) -> str:
    """What answers at `url`, as soon as something does."""

    def get() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - an http URL of our own making
            return str(answer.read(), "utf-8")

    deadline = asyncio.get_running_loop().time() + within
    while True:
        try:
            return await asyncio.to_thread(get)
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool], within: float = 30.0) -> None:
    """Return when the condition holds."""
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.01)


class Harness(ABC):
    """One test's use of a runtime, under instance names that no other test has."""

    serves_http = True
    labels_change = True
    """Whether an environment can show another end than when it was made."""

    image = "irrelevant"
    command: tuple[str, ...] = ()
    """Serves a folder on the environment's port WEB_PORT, with all its variables in /env.txt."""

    def __init__(self) -> None:
        self.instance = f"test-{uuid.uuid4().hex[:8]}"
        self._opened: list[Provisioner] = []

    @abstractmethod
    def new_provisioner(self, instance: str) -> Provisioner: ...

    @abstractmethod
    def unreachable(self) -> Provisioner:
        """One whose runtime does not answer."""

    @abstractmethod
    async def stop(self, environment: Environment) -> None:
        """It dies, and nobody meant it to."""

    @abstractmethod
    async def occupy(self, spec: EnvironmentSpec) -> None:
        """Somebody else makes something with the name of `spec`."""

    @abstractmethod
    async def vacate(self, spec: EnvironmentSpec) -> bool:
        """They take it away again; False when it is gone already."""

    @abstractmethod
    async def leftovers(self) -> list[str]:
        """Everything of this test's instances that the runtime still has, seen without our own code."""

    async def measure(self, _: Environment) -> None:
        """Where the runtime does not measure by itself what is used, somebody does."""
        return

    def options(self, instance: str) -> Any:
        """What another process needs to make the same provisioner."""
        raise NotImplementedError

    def provisioner(self, instance: str | None = None) -> Provisioner:
        """A new one each time, which is what a restart of Moorage is."""
        made = self.new_provisioner(instance or self.instance)
        self._opened.append(made)
        return made

    def spec(self, reservation: str = "r-1", *, instance: str | None = None, **changes: Any) -> EnvironmentSpec:
        instance = instance or self.instance
        access = AccessHints(http_port=WEB_PORT)
        spec = EnvironmentSpec(
            name=environment_name(instance, reservation, ALICE, GPU),
            key=reservation_key(instance, reservation),
            runtime="any",
            template="web",
            image=self.image,
            user=ALICE,
            resource=GPU,
            reservation_id=reservation,
            expires_at=UNTIL,
            command=self.command,
            ports=(Port(WEB_PORT),),
            access=access,
            labels=environment_labels(
                instance=instance,
                reservation_id=reservation,
                user=ALICE,
                resource=GPU,
                template="web",
                expires_at=UNTIL,
                access=access,
                limits=Limits(),
            ),
        )
        return replace(spec, **changes)

    async def variables(self, environment: Environment) -> Mapping[str, str]:
        """The variables that the environment's program sees."""
        assert environment.access.url is not None
        lines = (await fetch(f"{environment.access.url}/env.txt")).splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    async def ensure_elsewhere(self, spec: EnvironmentSpec, *, die: str = "done") -> str:
        """Ensure it in another Moorage and end that with SIGKILL; returns the native id it had seen."""
        return await asyncio.to_thread(carry_out, Order(self.options(self.instance), "ensure", spec, die))

    async def remove_elsewhere(self, key: str, *, die: str) -> None:
        """Begin a removal in another Moorage and end that with SIGKILL."""
        await asyncio.to_thread(carry_out, Order(self.options(self.instance), "remove", key, die))

    async def clean_up(self) -> list[str]:
        """Remove what our own code finds; what is left then, nobody would ever have found."""
        for instance in (self.instance, f"{self.instance}-b"):
            provisioner = self.provisioner(instance)
            await asyncio.gather(*(provisioner.remove(each.key) for each in await provisioner.list()))
        await asyncio.gather(*(provisioner.close() for provisioner in self._opened))
        return await self.leftovers()
