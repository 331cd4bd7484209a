"""One stretch of owning a partition, and how far its work has come."""

from collections import deque

from consumer.dispatch.offset_map import OffsetMap


class Watermark:
    """The lowest offset not yet done: all that may ever be committed.

    Offsets are admitted in rising order but may have gaps (compaction, transaction markers), and are completed in
    any order, both in O(1). Only those that are not done are remembered: one that takes for ever must not cost memory
    for all that were done after it.
    """

    __slots__ = ("_awaited", "_end", "_pending", "changes")

    def __init__(self) -> None:
        self._pending: dict[int, None] = {}  # a set that keeps its order
        self._end: int | None = None
        self._awaited: deque[int] = deque()
        """Pending offsets that an earlier owner left and that were not delivered again yet."""

        self.changes = 0
        """Grows with everything that is worth a commit."""

    @property
    def position(self) -> int | None:
        """The offset to commit: everything below it is done. None until an offset was admitted."""
        return next(iter(self._pending), self._end)

    @property
    def pending(self) -> int:
        """How many admitted offsets are not done."""
        return len(self._pending) - len(self._awaited)

    @property
    def largest_map(self) -> int:
        """Characters that its map takes at most, without making it: near enough to tell when to look."""
        if self._end is None or not self._pending:
            return 0
        span = self._end - next(iter(self._pending))
        return 32 + 4 * min(4 * len(self._pending), span // 8) // 3

    def begin(self, position: int) -> None:
        """Have this committed even if nothing is ever admitted: what lies below it is gone."""
        self._end = position
        self.changes += 1

    def resume(self, known: OffsetMap) -> None:
        """Go on where an earlier owner stopped; before anything is admitted."""
        self._pending = dict.fromkeys(known.pending)
        self._awaited = deque(known.pending)
        self._end = known.end

    def knows(self, offset: int) -> bool:
        """Whether it was admitted by this owner or an earlier one."""
        return self._end is not None and offset < self._end

    def is_done(self, offset: int) -> bool:
        """Whether an earlier owner, or this one, has done it: it is delivered again only because a lower one is not."""
        return self.knows(offset) and offset not in self._pending

    def reach(self, offset: int) -> None:
        """Note that the log was read up to this offset: awaited ones below it are not there any more.

        They were compacted, or the partition begins later now.
        """
        awaited = self._awaited
        while awaited and awaited[0] < offset:
            self.complete(awaited.popleft())

    def admit(self, offset: int) -> None:
        self.reach(offset)
        awaited = self._awaited
        if awaited and awaited[0] == offset:
            awaited.popleft()
            return
        self._pending[offset] = None
        self._end = offset + 1

    def complete(self, offset: int) -> None:
        """Mark an admitted offset done."""
        self._pending.pop(offset, None)
        self.changes += 1

    def snapshot(self) -> OffsetMap | None:
        """What is done and what is not, from the position on; None until an offset was admitted."""
        if self._end is None:
            return None
        pending = list(self._pending)
        return OffsetMap(pending[0] if pending else self._end, self._end, pending)


class Assignment:
    """One stretch of owning a partition: from being assigned it to losing it.

    A partition that comes back gets a new object with a higher `epoch`. Whatever still refers to a closed
    assignment belongs to somebody else's partition by now and changes nothing.
    """

    __slots__ = ("closed", "crowded", "epoch", "open", "outstanding", "partition", "topic", "watermark")

    def __init__(self, topic: str, partition: int, epoch: int = 0) -> None:
        self.topic = topic
        self.partition = partition
        self.epoch = epoch
        self.watermark = Watermark()
        self.outstanding = 0
        self.open = True
        self.crowded = False
        """Whether what is done above the watermark hardly fits into a commit: nothing new until some of it settled."""

        self.closed = False

    def takes(self, offset: int) -> bool:
        """Whether it may be admitted, as far as offset maps are concerned: one that is in the map already always."""
        return not self.crowded or self.watermark.knows(offset)

    def __repr__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.epoch}"
