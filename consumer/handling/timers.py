"""When each reservation is to be looked at again: one heap a partition, whatever their number."""

import heapq

_SLACK = 64
"""Entries that may lie in the heap beyond two for each reservation."""


class Timers:
    """The due times of one partition's reservations, as Unix seconds."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}
        """Where each one comes up in the heap first, which may be before it is due, or after it was disarmed."""

    def __len__(self) -> int:
        return len(self._due)

    def arm(self, reservation_id: str, when: float | None) -> None:
        """Have the reservation looked at then, and not before; never, for None."""
        if when is None:
            self._due.pop(reservation_id, None)
            return
        self._due[reservation_id] = when
        # One that moves back is found where it was, and put where it belongs then.
        if when < self._queued.get(reservation_id, float("inf")):
            self._queued[reservation_id] = when
            heapq.heappush(self._heap, (when, reservation_id))
            if len(self._heap) > 2 * len(self._due) + _SLACK:
                self._tidy()

    def due(self, now: float) -> str | None:
        """A reservation that is due, the one that is due the longest; it stays so until it is armed anew."""
        while self._heap and self._heap[0][0] <= now:
            when, reservation_id = self._heap[0]
            due = self._due.get(reservation_id)
            if self._queued.get(reservation_id) != when:
                heapq.heappop(self._heap)  # it was put elsewhere since
            elif due is None:
                heapq.heappop(self._heap)
                del self._queued[reservation_id]
            elif due > when:
                heapq.heapreplace(self._heap, (due, reservation_id))
                self._queued[reservation_id] = due
            else:
                return reservation_id
        return None

    def _tidy(self) -> None:
        """Leave out what was armed anew since: bookings that go back and forth must not fill the memory."""
        self._queued = dict(self._due)
        self._heap = [(when, reservation_id) for reservation_id, when in self._due.items()]
        heapq.heapify(self._heap)
