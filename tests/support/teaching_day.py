"""A teaching day, planned in advance: what the platform books, and what it says of each booking and when.

Each reservation follows one of the courses below; the generator deals them out, gives each a place on the timetable so
that never more than `MOST_AT_ONCE` environments run, and has a part of all events said once more later, as the platform
does. Times are seconds after the day began, on a machine that keeps up. On a slower one the whole day takes longer, and
while the group is far behind nothing new is booked for its time: it is not just a day on which all comes too late.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.installation import Installation
from tests.support.kafka import Message
from tests.support.payloads import Booked, Booking

MORNING = 88.0
"""When the last booking is over."""

_LATEST_AGAIN = 6.0
DUSK = MORNING + _LATEST_AGAIN + 4.0
"""When all has been said, and is past its grace."""

MOST_AT_ONCE = 40
_FIRST_START = 5.0
_SHORTEST, _LONGEST = 5.0, 8.0
_GRACE = 3.0
_ROOM_TO_LEAVE = 1.0
"""What an environment may need to be gone after its time, on the timetable."""

_CANDIDATES = 12
"""Places on the timetable of which the least busy one is taken."""


_MOST_BEHIND = 60
"""Records that the group may be behind: on a slow machine the day's clock waits."""

_TICK = 0.1


@dataclass(frozen=True)
class Slot:
    """A booking as of one moment."""

    start: float
    end: float
    user: str
    resource: Booked
    version: int = 0


@dataclass(frozen=True)
class Said:
    """One event: it is said `at` this time of the day, and tells of this slot."""

    at: float
    kind: str
    slot: Slot


@dataclass
class Reservation:
    """What is said of one reservation, in order; duplicates aside."""

    id: str
    course: str
    slot: Slot
    said: list[Said] = field(default_factory=list)
    again: list[Said] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return (self.slot.start + self.slot.end) / 2

    @property
    def runs(self) -> tuple[float, float]:
        """From when until when there may be an environment of it."""
        slots = [self.slot, *(each.slot for each in self.said)]
        begin = min(slot.start for slot in slots) - 1
        if (ended_at := self.ended_at) is not None:
            return begin, max(begin, ended_at + _ROOM_TO_LEAVE)
        return begin, max(slot.end for slot in slots) + _GRACE + _ROOM_TO_LEAVE

    @property
    def seconds(self) -> range:
        begin, end = self.runs
        return range(int(begin), int(end) + 1)

    @property
    def ended_at(self) -> float | None:
        """When the platform first says that it is over; None if it never does."""
        return min((each.at for each in self.said if each.kind in ("end_event", "deleted")), default=None)

    def say(self, kind: str, at: float) -> None:
        self.said.append(Said(at, kind, self.slot))

    def book(self) -> None:
        self.say("created", self.slot.start - 4)

    def begin(self) -> None:
        self.say("start_event", self.slot.start - 0.5)

    def end(self) -> None:
        self.say("end_event", self.slot.end)

    def delete(self, at: float) -> None:
        self.say("deleted", at)

    def change(self, at: float, **changes: Any) -> None:
        self.slot = replace(self.slot, version=self.slot.version + 1, **changes)
        self.say("updated", at)

    def later(self, seconds: float) -> dict[str, float]:
        return {"start": self.slot.start + seconds, "end": self.slot.end + seconds}


def _as_booked(each: Reservation) -> None:
    each.book()
    each.begin()
    each.end()


def _known_from_its_start_alone(each: Reservation) -> None:
    each.begin()
    each.end()


def _end_is_lost(each: Reservation) -> None:
    each.book()
    each.begin()


def _all_but_the_start_is_lost(each: Reservation) -> None:
    each.begin()


def _start_is_lost(each: Reservation) -> None:
    each.book()
    each.end()


def _start_and_end_are_lost(each: Reservation) -> None:
    each.book()


def _extended(each: Reservation) -> None:
    each.book()
    each.begin()
    each.change(each.middle, end=each.slot.end + 4)
    each.end()


def _extended_and_the_end_is_lost(each: Reservation) -> None:
    each.book()
    each.begin()
    each.change(each.middle, end=each.slot.end + 3)


def _shortened_and_the_end_is_lost(each: Reservation) -> None:
    each.book()
    each.begin()
    each.change(each.slot.start + 2, end=each.slot.end - 2)


def _shortened_into_the_past(each: Reservation) -> None:
    each.book()
    each.begin()
    each.change(each.middle, end=each.middle - 0.5)


def _moved_to_another_resource(each: Reservation) -> None:
    each.book()
    each.begin()
    number = each.slot.resource.id + 100
    each.change(each.middle, resource=Booked(number, f"Node {number}"))
    each.end()


def _moved_to_another_owner(each: Reservation) -> None:
    each.book()
    each.begin()
    each.change(each.middle, user=f"{each.slot.user}-b")


def _postponed(each: Reservation) -> None:
    each.book()
    each.begin()
    each.change(each.middle, **each.later(8))
    each.begin()
    each.end()


def _postponed_and_the_rest_is_lost(each: Reservation) -> None:
    each.book()
    each.begin()
    each.change(each.middle, **each.later(8))


def _postponed_and_brought_forward(each: Reservation) -> None:
    each.book()
    each.begin()
    each.change(each.slot.start + 1.5, **each.later(8))
    each.change(each.slot.start - 5, **each.later(-8))
    each.end()


def _deleted_while_it_runs(each: Reservation) -> None:
    each.book()
    each.begin()
    each.delete(each.middle)


def _deleted_before(each: Reservation) -> None:
    each.book()
    each.delete(each.slot.start - 2)
    each.begin()


def _ended_at_once(each: Reservation) -> None:
    each.begin()
    each.say("end_event", each.slot.start - 0.4)


def _ended_before_the_start_came(each: Reservation) -> None:
    each.say("end_event", each.slot.start - 0.5)
    each.say("start_event", each.slot.start)


COURSES: tuple[Callable[[Reservation], None], ...] = (
    _as_booked,
    _as_booked,
    _known_from_its_start_alone,
    _end_is_lost,
    _end_is_lost,
    _all_but_the_start_is_lost,
    _start_is_lost,
    _start_and_end_are_lost,
    _extended,
    _extended_and_the_end_is_lost,
    _shortened_and_the_end_is_lost,
    _shortened_into_the_past,
    _moved_to_another_resource,
    _moved_to_another_owner,
    _postponed,
    _postponed_and_the_rest_is_lost,
    _postponed_and_brought_forward,
    _deleted_while_it_runs,
    _deleted_before,
    _ended_at_once,
    _ended_before_the_start_came,
)


def plan(seed: int, *, reservations: int) -> list[Reservation]:
    """The same day for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - a timetable, not a secret
    made: list[Reservation] = []
    busy = Counter[int]()
    for number in range(reservations):
        course = COURSES[number % len(COURSES)]
        candidates = [_placed(rng, f"{seed}{number:04}", course) for _ in range(_CANDIDATES)]
        fitting = [each for each in candidates if each.runs[1] <= MORNING + _GRACE + _ROOM_TO_LEAVE]
        each = min(fitting, key=lambda each: max(busy[second] for second in each.seconds))
        busy.update(each.seconds)
        each.again = [
            replace(said, at=said.at + rng.uniform(0.1, _LATEST_AGAIN)) for said in each.said if rng.random() < 0.25
        ]
        made.append(each)
    return made


def _placed(rng: random.Random, name: str, course: Callable[[Reservation], None]) -> Reservation:
    start = rng.uniform(_FIRST_START, MORNING - _SHORTEST)
    number = rng.randrange(1, 60)
    kind = "Web page" if rng.random() < 0.1 else "Shell"
    slot = Slot(
        start,
        start + rng.uniform(_SHORTEST, _LONGEST),
        f"user-{rng.randrange(80)}",
        Booked(number, f"Node {number} “ß”", kind),
    )
    each = Reservation(name, course.__name__.strip("_").replace("_", " "), slot)
    course(each)
    return each


def most_at_once(reservations: Iterable[Reservation]) -> int:
    """The largest number of environments that run in the same second, as planned."""
    busy = Counter(second for each in reservations for second in each.seconds)
    return max(busy.values())


class Platform:
    """Says what is planned when its time comes; `now` is the time of the day."""

    def __init__(self, ours: Installation, reservations: list[Reservation], *, pace: float) -> None:
        """`pace` is how many real seconds one of the plan's takes."""
        self._ours = ours
        self._pace = pace
        self._left = sorted(
            ((said.at, each, said) for each in reservations for said in (*each.said, *each.again)),
            key=lambda entry: entry[0],
        )
        self._begin = time.monotonic()
        self._midnight = datetime.now(UTC)
        self._midnights: dict[str, datetime] = {}
        """From when a reservation's times count: it keeps what was first said of it, though the clock stands still."""

        self.waited = 0.0
        """Seconds for which the day's clock stood still, because the group was far behind."""

    @property
    def now(self) -> float:
        return (time.monotonic() - self._begin - self.waited) / self._pace

    @property
    def left(self) -> int:
        """How many events are still to be said."""
        return len(self._left)

    @property
    def behind(self) -> int:
        """How many records are not done."""
        names = self._ours.names
        return sum(self._ours.kafka.lag(names.group, names.inbound).values())

    def until(self, moment: float) -> None:
        """Let the day go on until this time of it."""
        while self.now < moment:
            looked = time.monotonic()
            if self.behind > _MOST_BEHIND:
                time.sleep(_TICK)
                self.waited += time.monotonic() - looked
                continue
            self._ours.publish(*self._due())
            time.sleep(_TICK)

    def until_busy(self) -> int:
        """Let the day go on until the group has something to do; how many records are not done then."""
        while True:
            self._ours.publish(*self._due())
            if behind := self.behind:
                return behind
            time.sleep(_TICK)

    def _due(self) -> Iterator[Message]:
        while self._left and self._left[0][0] <= self.now:
            _, reservation, said = self._left.pop(0)
            yield Message(self._event(reservation.id, said), reservation.id.encode())

    def _event(self, reservation: str, said: Said) -> bytes:
        slot = said.slot
        midnight = self._midnights.setdefault(reservation, self._midnight + timedelta(seconds=self.waited))
        booking = Booking(
            id=reservation,
            user=slot.user,
            resource=slot.resource,
            start=midnight + timedelta(seconds=slot.start * self._pace),
            end=midnight + timedelta(seconds=slot.end * self._pace),
            version=slot.version,
        )
        value: bytes = getattr(booking, said.kind)()
        return value
