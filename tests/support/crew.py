"""Members of one group by name, which are killed and launched again."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.support.installation import Installation
from tests.support.service import ImpatientService, Service


class Crew:
    """All of them consume when the block is entered, and are gone when it is left."""

    def __init__(self, ours: Installation, settings: Mapping[str, Mapping[str, str]]) -> None:
        self._ours = ours
        self._settings = settings
        self.members: dict[str, Service] = {}
        self.began_ms = time.time() * 1000
        self.kills_ms: list[float] = []
        """When somebody was killed, as Unix milliseconds."""

    def __enter__(self) -> Self:
        self.launch(*self._settings)
        for member in self.members.values():
            member.wait_until_consuming()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members.values():
            member.kill()

    def launch(self, *names: str) -> None:
        for name in names:
            self.members[name] = self._ours.launch(name, kind=ImpatientService, **self._settings[name])

    def kill(self, *names: str) -> None:
        for name in names:
            self.members[name].kill()
        self.kills_ms.append(time.time() * 1000)

    def stop(self) -> None:
        """Ask all to stop in good order, one after the other."""
        for name, member in self.members.items():
            assert member.stop() == 0, f"{name} left something:\n{member.tail()}"
