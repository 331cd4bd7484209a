"""The books of an installation under traffic: every record that was published, and each outcome it led to.

Read from topics and the group's committed offsets alone. A result names its record by the `traceparent` that
tests.support.traffic gave it, a dead letter by the place it was at. As with the verifier, each method is one promise
and returns what speaks against it.
"""

import itertools
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.background import in_background
from tests.support.kafka import Kafka, Message, Names

Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True)
class Sample:
    """What was committed at a moment, and how far the topics of outcomes had come after that."""

    committed: dict[int, int]
    ends: dict[tuple[str, int], int]


@dataclass(frozen=True)
class Outcome:
    """A result or a dead letter, the moment it was published at, and the result's id."""

    place: Place
    published_ms: int
    id: str


@dataclass(frozen=True)
class Entry:
    """One published record. `reservation` is None for one that nobody can read."""

    partition: int
    offset: int
    reservation: str | None
    outcomes: list[Outcome] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset} of {self.reservation}"


class Ledger:
    """What lies in the topics now. Make a new one to look again."""

    def __init__(self, kafka: Kafka, names: Names) -> None:
        self._entries: dict[tuple[int, int], Entry] = {}
        self._told: dict[str, list[Entry]] = defaultdict(list)
        self._strange: list[str] = []
        by_trace: dict[str, Entry] = {}
        for message in kafka.read(names.inbound):
            trace = message.header("traceparent")
            entry = Entry(message.partition or 0, message.offset, (message.key or b"").decode() if trace else None)
            self._entries[entry.partition, entry.offset] = entry
            if trace:
                by_trace[trace] = entry
        for message in kafka.read(names.dead_letters):
            place = tuple(int(message.header(f"moorage-dlt-original-{each}") or -1) for each in ("partition", "offset"))
            self._book(self._entries.get(place), names.dead_letters, message)  # type: ignore[arg-type]
        for message in kafka.read(names.outbound):
            if (message.header("ce_type") or "").startswith("io.moorage.result."):
                entry_of_result = by_trace.get(message.header("traceparent") or "")
                self._book(entry_of_result, names.outbound, message)
                if entry_of_result is not None:
                    self._told[message.header("ce_subject") or ""].append(entry_of_result)

    def _book(self, entry: Entry | None, topic: str, message: Message) -> None:
        place = (topic, message.partition or 0, message.offset)
        if entry is None:
            about = [message.header(name) for name in ("ce_type", "ce_subject", "traceparent")]
            self._strange.append(f"{place} is the outcome of no record: {about} {message.value!r}")
        else:
            entry.outcomes.append(Outcome(place, message.timestamp_ms, message.header("ce_id") or ""))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    @property
    def repeated(self) -> list[Entry]:
        """The records that have more than one outcome."""
        return [entry for entry in self._entries.values() if len(entry.outcomes) > 1]

    @property
    def repetitions(self) -> int:
        """Outcomes beyond one for each record."""
        return sum(len(entry.outcomes) - 1 for entry in self.repeated)

    # Promises

    def lost(self, *, since: Mapping[int, int] | None = None) -> list[str]:
        """Records without an outcome, and outcomes without a record. `since`: from which offset on, by partition."""
        begin = since or {}
        missing = (entry for entry in self._entries.values() if not entry.outcomes)
        return [str(entry) for entry in missing if entry.offset >= begin.get(entry.partition, 0)] + self._strange

    def out_of_order(self) -> list[str]:
        """Reservations whose events took effect in another order than they were published in, repetitions aside."""
        problems = []
        for reservation, entries in self._told.items():
            firsts = list(dict.fromkeys(entry.offset for entry in entries))
            if firsts != sorted(firsts) or {entry.reservation for entry in entries} != {reservation}:
                problems.append(f"{reservation}: {[str(entry) for entry in entries]}")
        return problems

    def repeated_without(self, accidents_ms: Sequence[float]) -> list[str]:
        """Records that were handled again although none of these moments lies between."""
        return [
            f"{entry}: {[outcome.published_ms for outcome in entry.outcomes]}"
            for entry in self.repeated
            for first, again in itertools.pairwise(sorted(outcome.published_ms for outcome in entry.outcomes))
            if not any(first <= accident <= again for accident in accidents_ms)
        ]

    def committed_too_early(self, samples: Iterable[Sample]) -> list[str]:
        """Records below a committed offset whose outcome was not in its topic yet."""
        problems = []
        checked: dict[int, int] = defaultdict(int)  # topics only grow: what was there once is there for good
        for number, sample in enumerate(samples):
            for partition, committed in sample.committed.items():
                for offset in range(checked[partition], committed):
                    entry = self._entries.get((partition, offset))
                    if entry is not None and not _lies_there(entry, sample):
                        problems.append(f"{entry} at sample {number}")
                checked[partition] = max(checked[partition], committed)
        return problems


def _lies_there(entry: Entry, sample: Sample) -> bool:
    return any(offset < sample.ends.get((topic, partition), 0) for topic, partition, offset in _places(entry))


def _places(entry: Entry) -> Iterator[Place]:
    return (outcome.place for outcome in entry.outcomes)


@contextmanager
def sampled(kafka: Kafka, names: Names, *, every: float = 0.2) -> Iterator[list[Sample]]:
    """Samples taken all the time until the block is left."""
    samples: list[Sample] = []

    def look(over: threading.Event) -> None:
        with Kafka(kafka.bootstrap_servers) as own:
            while not over.is_set():
                committed = own.committed(names.group, names.inbound)  # first: the topics only grow meanwhile
                ends = {
                    (topic, partition): end
                    for topic in (names.outbound, names.dead_letters)
                    for partition, end in own.ends(topic).items()
                }
                samples.append(Sample(committed, ends))
                over.wait(every)

    with in_background(look, name="sampler"):
        yield samples
