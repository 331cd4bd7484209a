"""One stretch of owning a partition, and how far its work has come."""


class Watermark:
    """The lowest offset not yet done: all that may ever be committed.

    Offsets are admitted in rising order but may have gaps (compaction, transaction markers), and are completed in
    any order, both in O(1). Only those that are not done are remembered: one that takes for ever must not cost memory
    for all that were done after it.
    """

    __slots__ = ("_end", "_pending")

    def __init__(self) -> None:
        self._pending: dict[int, None] = {}  # a set that keeps its order
        self._end: int | None = None

    @property
    def position(self) -> int | None:
        """The offset to commit: everything below it is done. None until an offset was admitted."""
        return next(iter(self._pending), self._end)

    @property
    def pending(self) -> int:
        """How many admitted offsets are not done."""
        return len(self._pending)

    def admit(self, offset: int) -> None:
        self._pending[offset] = None
        self._end = offset + 1

    def complete(self, offset: int) -> None:
        """Mark an admitted offset done."""
        self._pending.pop(offset, None)


class Assignment:
    """One stretch of owning a partition: from being assigned it to losing it.

    A partition that comes back gets a new object with a higher `epoch`. Whatever still refers to a closed
    assignment belongs to somebody else's partition by now and changes nothing.
    """

    __slots__ = ("closed", "epoch", "open", "outstanding", "partition", "topic", "watermark")

    def __init__(self, topic: str, partition: int, epoch: int = 0) -> None:
        self.topic = topic
        self.partition = partition
        self.epoch = epoch
        self.watermark = Watermark()
        self.outstanding = 0
        self.open = True
        self.closed = False

    def __repr__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.epoch}"
