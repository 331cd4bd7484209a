"""A pool of engines in memory, of which each knows what the others have."""

from typing import Any

from consumer.provisioners.memory import MemoryEngine
from schemas.events import Resource
from tests.handling.world import World

NAMES = ("a", "b", "c")
CAPACITIES = (2, 2, 4)
DOUBLE = Resource("51", "Big 1", "Pool")
QUEUED = Resource("61", "Queue 1", "Queued")
LONELY = Resource("71", "Lonely 1", "Lonely")

TEMPLATES = """
version: 1
engines:
  - {name: a, runtime: docker, url: "tcp://a:2376", capacity: 2}
  - {name: b, runtime: docker, url: "tcp://b:2376", capacity: 2}
  - {name: c, runtime: docker, url: "tcp://c:2376", capacity: 4}
templates:
  - {name: pool, match: {type: Pool}, runtime: docker, engines: [a, b, c], image: "nginx:1.27", ports: 80}
  - name: queued
    match: {type: Queued}
    runtime: docker
    engines: [a, b]
    image: "nginx:1.27"
    quotas: {queue: true}
  - {name: lonely, match: {type: Lonely}, runtime: docker, engines: [a], image: "nginx:1.27"}
"""


class PooledEngine(MemoryEngine):
    """It is a violation as well to have more than `capacity`, or what lives on another engine too."""

    def __init__(self, engines: dict[str, MemoryEngine], capacity: int) -> None:
        super().__init__(latency=0.05)
        self._engines = engines
        self._capacity = capacity

    def _count_live(self, key: str) -> None:
        super()._count_live(key)
        live = [name for name, each in self._engines.items() if any(made.status != "stopped" for made in each._of(key))]
        if len(live) > 1:
            self.violations.append(f"{key} lives on {' and '.join(live)}")
        if len(self.names()) > self._capacity:
            self.violations.append(f"{len(self.names())} environments, and room for {self._capacity}")


class Pool(World):
    """The world with a pool of three engines, `docker@a` and so on, instead of its two runtimes."""

    def __init__(self, templates: str = TEMPLATES, **options: Any) -> None:
        self.pool: dict[str, MemoryEngine] = {}
        for name, capacity in zip(NAMES, CAPACITIES, strict=True):
            self.pool[f"docker@{name}"] = PooledEngine(self.pool, capacity)
        super().__init__(templates, pool=self.pool, **options)

    def engine(self, name: str) -> MemoryEngine:
        return self.runtimes[f"docker@{name}"]

    def counts(self) -> tuple[int, ...]:
        """How many environments each engine has."""
        return tuple(len(self.engine(name).names()) for name in NAMES)

    def where(self, reservation_id: str = "1841") -> str | None:
        """The engine on which a reservation is remembered to run."""
        state = self.state(reservation_id)
        return state.runtime.removeprefix("docker@") if state is not None and state.runtime is not None else None
