"""What is consumed: seeded traces of keys and of how long handling each record takes."""

import random
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

VALUE_BYTES = 300
_SEED = 7
"""Of the first two dozen seeds the one with ordinary bounds: in others one key happens to get long records."""


@dataclass(frozen=True)
class Workload:
    """`skew` is the exponent of a Zipf distribution over `keys` keys, 0 means uniform.

    Handling times are exponential with `mean` seconds, cut at `longest`; a mean of 0 is a handler that returns at once.
    """

    name: str
    about: str
    records: int
    partitions: int
    keys: int
    skew: float
    mean: float
    longest: float
    concurrency: int = 256

    @cached_property
    def trace(self) -> "Trace":
        chance = random.Random(_SEED)
        weights = list(accumulate(1 / rank**self.skew for rank in range(1, self.keys + 1)))
        keys = chance.choices(range(self.keys), cum_weights=weights, k=self.records)
        micros = [
            round(min(chance.expovariate(1 / self.mean), self.longest) * 1e6) if self.mean else 0
            for _ in range(self.records)
        ]
        return Trace(tuple(keys), tuple(micros))

    @property
    def lower_bound(self) -> float:
        """Seconds that no consumer can undercut that keeps the order of keys and runs so many handlers at a time."""
        return max(self.trace.busiest_key, self.trace.work / self.concurrency)

    def smaller(self, factor: int) -> "Workload":
        """The same with fewer records, for a quick look."""
        return replace(self, records=self.records // factor)


@dataclass(frozen=True)
class Trace:
    """Key and handling time in microseconds of each record, in the order they are produced."""

    keys: tuple[int, ...]
    micros: tuple[int, ...]

    @property
    def work(self) -> float:
        """Seconds of handling altogether."""
        return sum(self.micros) / 1e6

    @property
    def busiest_key(self) -> float:
        """Seconds of handling that have to follow each other."""
        seconds: Counter[int] = Counter()
        for key, micros in zip(self.keys, self.micros, strict=True):
            seconds[key] += micros
        return max(seconds.values()) / 1e6

    def messages(self) -> list[tuple[bytes, bytes]]:
        """(key, value) of each record. A value is "index microseconds" and padding, so any language reads it."""
        return [
            (b"key-%d" % key, (b"%d %d " % (index, micros)).ljust(VALUE_BYTES, b"."))
            for index, (key, micros) in enumerate(zip(self.keys, self.micros, strict=True))
        ]


_W1 = Workload("W1", "skewed keys, 5 ms", records=20_000, partitions=8, keys=2_000, skew=1.1, mean=0.005, longest=0.05)

WORKLOADS = {
    workload.name: workload
    for workload in (
        _W1,
        replace(_W1, name="W1u", about="uniform keys, 5 ms", skew=0.0),
        replace(_W1, name="W2", about="skewed keys, no-op", mean=0.0),
        replace(_W1, name="W3", about="uniform keys, 200 ms", records=2_000, skew=0.0, mean=0.2, longest=2.0),
        replace(_W1, name="W4", about="W1 in one partition", partitions=1),
    )
}
