"""Who watches: only the broker's logs, the committed offsets and the handler's calls, and what must always be true.

A record is finished when all that the latest run of each of its items wanted published lies in the topics. What is
wrong is collected in `problems`: an assertion that fails in a handler would be taken for a defect of the handler.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from consumer.dispatch import OffsetMap, OffsetMapError
from consumer.transport.memory import MemoryBroker
from tests.simulation.plan import DEAD_LETTERS, GROUP, OUTBOUND, STATE, Item

MARK = "item"
"""The header by which a publication is recognised: `item/run/number`."""


class WatchedOffsets(dict[TopicPartition, OffsetAndMetadata]):
    """A group's committed offsets, each looked at as it is written."""

    def __init__(self, look: Callable[[TopicPartition, OffsetAndMetadata], None]) -> None:
        super().__init__()
        self._look = look

    def __setitem__(self, tp: TopicPartition, offset: OffsetAndMetadata) -> None:
        self._look(tp, offset)
        super().__setitem__(tp, offset)


class Observer:
    """`maps_are_read` says whether members always learn what was done above the committed offsets, `one_at_a_time`
    whether two of them can never take themselves for the owner of a partition.
    """

    def __init__(
        self, broker: MemoryBroker, now: Callable[[], float], *, maps_are_read: bool, one_at_a_time: bool
    ) -> None:
        self._broker = broker
        self._now = now
        self._maps_are_read = maps_are_read
        self._one_at_a_time = one_at_a_time
        self._running: dict[tuple[int, Hashable], str] = {}
        self.problems: list[str] = []
        self.story: list[str] = []
        self.items: dict[tuple[int, int], list[Item]] = {}
        """The items of each record, by partition and offset."""

        self.runs: Counter[Item] = Counter()
        self.repeats: list[Item] = []
        """Runs of items whose record was finished."""

        self.repeated_parts: list[Item] = []
        """Runs of items that were finished, while others of their record were not."""

        self.cancelled: list[Item] = []
        self._queues: dict[tuple[int, Hashable], list[Item]] = defaultdict(list)
        self._wanted: dict[Item, set[str]] = {}
        """What the latest run wanted published and is not stored yet."""

        self._handled_by: dict[tuple[int, int], tuple[str, int]] = {}
        self._by_mark: dict[str, Item] = {}
        self._finished: set[Item] = set()
        self._open: dict[int, dict[int, None]] = defaultdict(dict)
        """By partition: the offsets that are not finished, rising."""

        self._read: Counter[tuple[str, int]] = Counter()
        self._beginnings: dict[tuple[str, int], tuple[int, frozenset[int]]] = {}

    def tell(self, what: str) -> None:
        self.story.append(f"{self._now():10.3f} {what}")

    def expect(self, condition: bool, otherwise: str) -> None:
        if not condition:
            self.problems.append(f"{self._now():.3f} {otherwise}")
            self.tell(f"PROBLEM: {otherwise}")

    # What comes in

    def produced(self, partition: int, offset: int, items: list[Item]) -> None:
        self.items[partition, offset] = items
        self._open[partition][offset] = None
        for item in items:
            queue = self._queues[partition, item.key]
            if not queue or queue[-1].offset != offset:  # a record may name a key twice
                queue.append(item)

    def skipped_below(self, partition: int, offset: int) -> None:
        """An operator moved the group past what is not finished."""
        for each in [each for each in self._open[partition] if each < offset]:
            self._finish_record(partition, each)

    # What the handler does

    def starts(self, item: Item, member: str, epoch: int) -> int:
        """Note a run, by a member in one stretch of owning the partition; returns its number."""
        self.look()
        run = self.runs[item]
        self.runs[item] += 1
        self.tell(f"{member} starts {item}, run {run}")
        lane = (item.partition, item.key)
        if self._one_at_a_time:
            self.expect(lane not in self._running, f"{member} starts {item}, and {self._running.get(lane)} has its key")
        self._running[lane] = member
        self._wanted.pop(item, None)
        record = (item.partition, item.offset)
        if self._is_finished(*record):
            self.repeats.append(item)
            self._expect_not_committed(item, member)
        elif self._handled_by.get(record) != (member, epoch):
            # Given up by who had begun the record. It is handled as a whole again, and only that counts.
            self.repeated_parts += [item] if item in self._finished else []
            self._finished.difference_update(self.items[record])
            for part in self.items[record]:
                self._wanted.pop(part, None)
        self._handled_by[record] = (member, epoch)
        queue = self._queues[item.partition, item.key]
        while queue and self._is_finished(item.partition, queue[0].offset):
            queue.pop(0)
        before = [each for each in queue if each.offset < item.offset and each not in self._finished]
        self.expect(not before, f"{member} starts {item} before {before}")
        return run

    def leaves(self, item: Item) -> None:
        """A run is over, whatever it came to."""
        self._running.pop((item.partition, item.key), None)

    def ends(self, item: Item, publications: Collection[str]) -> None:
        """The latest run of an item succeeded and wants these published."""
        if publications:
            self._by_mark.update(dict.fromkeys(publications, item))
            self._wanted[item] = set(publications)
        else:
            self._finish(item)

    # What the broker shows

    def positions_read(self, member: str) -> None:
        """A member learns where to begin: what is committed by now is not its business any more."""
        for tp, committed in self._broker.group(GROUP).committed.items():
            self._beginnings[member, tp.partition] = (committed.offset, self._done_above(tp, committed))

    def committed(self, tp: TopicPartition, committed: OffsetAndMetadata) -> None:
        self.look()
        self.tell(f"committed {tp.partition}: {committed.offset} {committed.metadata}")
        lowest = next(iter(self._open[tp.partition]), self._broker.log(tp).end)
        self.expect(committed.offset <= lowest, f"{tp.partition} commits {committed.offset}, but {lowest} is not done")
        wrong = [offset for offset in self._done_above(tp, committed) if offset in self._open[tp.partition]]
        self.expect(not wrong, f"{tp.partition} calls {wrong} done, which are not")

    def look(self) -> None:
        """Read what was published since the last time."""
        fresh: set[str] = set()
        for topic in (OUTBOUND, DEAD_LETTERS, STATE):
            for partition, log in enumerate(self._broker.topics[topic].partitions):
                start = self._read[topic, partition]
                self._read[topic, partition] = len(log.records)
                for record in log.records[start:]:
                    mark = (dict(record.headers)[MARK] or b"").decode()
                    run = mark.rpartition("/")[0]
                    if topic == STATE:
                        self.expect(run not in fresh, f"{mark} was not kept until the others were acknowledged")
                    fresh.add(run)
                    self._stored(mark)

    def _stored(self, mark: str) -> None:
        item = self._by_mark.get(mark)
        if item is None or mark not in (missing := self._wanted.get(item, set())):
            return
        missing.remove(mark)
        self.expect(not (mark.endswith("/state") and missing), f"{mark} is stored before {missing}")
        if not missing:
            del self._wanted[item]
            self._finish(item)

    # What is finished

    @property
    def unfinished(self) -> dict[int, list[int]]:
        """The offsets that are not finished, by partition."""
        return {partition: list(offsets) for partition, offsets in self._open.items() if offsets}

    def _finish(self, item: Item) -> None:
        self._finished.add(item)
        if all(each in self._finished for each in self.items[item.partition, item.offset]):
            self._finish_record(item.partition, item.offset)

    def _finish_record(self, partition: int, offset: int) -> None:
        self._open[partition].pop(offset, None)

    def _is_finished(self, partition: int, offset: int) -> bool:
        return offset not in self._open[partition]

    def _expect_not_committed(self, item: Item, member: str) -> None:
        offset, above = self._beginnings.get((member, item.partition), (0, frozenset()))
        done = item.offset < offset or (item.offset in above and self._maps_are_read)
        self.expect(not done, f"{member} repeats {item}, which was committed before it came")

    def _done_above(self, tp: TopicPartition, committed: OffsetAndMetadata) -> frozenset[int]:
        """The offsets that the metadata calls done."""
        if not committed.metadata:
            return frozenset()
        try:
            known = OffsetMap.decode(committed.metadata, committed.offset)
        except OffsetMapError:
            return frozenset()
        return frozenset(range(known.position, known.end)) - set(known.pending)
