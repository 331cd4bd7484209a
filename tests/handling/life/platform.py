"""What the platform may send, and when: anything, in any order, as often as it likes."""

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from schemas.events import ReservationEvent, Resource, ResourceEvent, User
from tests.handling.life.lab import Lab, resent
from tests.handling.world import GPU, KEPT, MINUTE, POD, created, deleted, end, start, updated
from tests.reservations.bookings import ANN, BOB, OTHER_SERVER, SERVER
from tests.virtual_clock import VirtualClockLoop

NAMES = ("1841", "7", "12")
RESOURCES = (SERVER, OTHER_SERVER, POD, GPU, KEPT)

names = st.sampled_from((NAMES[0], *NAMES))  # most is found out about one that much happens to
minutes = st.sampled_from([-90, -30, -1, 0, 4, 11, 30, 120])
lengths = st.sampled_from([1, 10, 45, 180])


class Platform(RuleBasedStateMachine):
    """Books, changes, starts and ends reservations in `lab`."""

    lab: Lab
    most_members: int

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualClockLoop)
        self.versions: dict[str, dict[int, ReservationEvent]] = {name: {} for name in NAMES}
        self.sent: list[ReservationEvent | ResourceEvent] = []
        self.jumped_at: datetime | None = None
        """When the wall clock went wrong, if it is."""

    def do(self, what: Coroutine[Any, Any, None]) -> None:
        self.runner.run(what)

    def send(self, event: ReservationEvent | ResourceEvent) -> None:
        async def send() -> None:
            self.lab.send(event)
            self.sent.append(event)

        self.do(send())

    def booking(self, starts: int, length: int, resource: Resource, user: str) -> dict[str, Any]:
        begin = self.lab.now().replace(microsecond=0) + starts * MINUTE
        return {"start": begin, "end": begin + length * MINUTE, "resource": resource, "user": User(user)}

    @rule(
        name=names,
        starts=minutes,
        length=lengths,
        resource=st.sampled_from(RESOURCES),
        user=st.sampled_from([ANN.id, BOB.id]),
        ahead=st.integers(1, 2),
    )
    def a_booking_is_made_or_changed(
        self, name: str, starts: int, length: int, resource: Resource, user: str, ahead: int
    ) -> None:
        """`ahead` of 2 leaves a version out, which comes late if it comes at all."""
        number = max(self.versions[name], default=-1) + ahead
        self._tell_version(name, number, self.booking(starts, length, resource, user))

    @rule(name=names, length=lengths, resource=st.sampled_from(RESOURCES), user=st.sampled_from([ANN.id, BOB.id]))
    def all_goes_as_it_should(self, name: str, length: int, resource: Resource, user: str) -> None:
        """What comes first in most stories."""
        booked = self.booking(4, length, resource, user)
        self._tell_version(name, max(self.versions[name], default=-1) + 1, booked)
        self.send(start(name, **(booked | {"user": ANN if user == ANN.id else BOB})))

    @precondition(lambda self: any(self.versions.values()))
    @rule(data=st.data(), change=st.sampled_from(["end", "start", "resource", "user"]), by=minutes)
    def a_booking_changes_a_little(self, data: st.DataObject, change: str, by: int) -> None:
        name = data.draw(st.sampled_from([name for name in NAMES if self.versions[name]]))
        number, newest = max(self.versions[name].items())
        booked: dict[str, Any] = {
            "start": newest.start,
            "end": newest.end,
            "resource": newest.resource,
            "user": newest.user,
        }
        match change:
            case "end":
                booked["end"] = max(newest.end + by * MINUTE, newest.start + MINUTE)
            case "start":
                booked["start"] = newest.start + by * MINUTE
                booked["end"] = max(newest.end, booked["start"] + MINUTE)
            case "resource":
                booked["resource"] = data.draw(st.sampled_from(RESOURCES))
            case "user":
                booked["user"] = User(BOB.id if newest.user.id == ANN.id else ANN.id)
        self._tell_version(name, number + 1, booked)

    @precondition(lambda self: any(self._left_out(name) for name in NAMES))
    @rule(data=st.data(), starts=minutes, length=lengths, resource=st.sampled_from(RESOURCES))
    def an_old_version_comes_late(self, data: st.DataObject, starts: int, length: int, resource: Resource) -> None:
        name = data.draw(st.sampled_from([name for name in NAMES if self._left_out(name)]))
        number = data.draw(st.sampled_from(self._left_out(name)))
        self._tell_version(name, number, self.booking(starts, length, resource, ANN.id))

    def _left_out(self, name: str) -> list[int]:
        return [number for number in range(max(self.versions[name], default=-1)) if number not in self.versions[name]]

    def _tell_version(self, name: str, number: int, booked: dict[str, Any]) -> None:
        event = created(name, **booked) if number == 0 else updated(number, name, **booked)
        self.versions[name][number] = event
        self.send(event)

    @rule(name=names, data=st.data(), length=lengths, resource=st.sampled_from(RESOURCES))
    def a_start_comes(self, name: str, data: st.DataObject, length: int, resource: Resource) -> None:
        """Of a booking that was told, which may be an old one by now; or of one that nobody told of."""
        if self.versions[name]:
            number = data.draw(st.sampled_from(sorted(self.versions[name], reverse=True)))
            told = self.versions[name][number]
            user = ANN if told.user.id == ANN.id else BOB
            booked: dict[str, Any] = {"start": told.start, "end": told.end, "resource": told.resource, "user": user}
        else:
            booked = self.booking(0, length, resource, ANN.id) | {"user": ANN}
        self.send(start(name, **booked))

    @rule(name=names, is_deleted=st.booleans())
    def it_ends(self, name: str, is_deleted: bool) -> None:
        booked = next(({"start": e.start, "end": e.end} for e in reversed(self._events(name))), {})
        self.send((deleted if is_deleted else end)(name, **booked))

    def _events(self, name: str) -> list[ReservationEvent]:
        return [each for each in self.sent if isinstance(each, ReservationEvent) and each.reservation_id == name]

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def something_comes_again(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.sent[::-1]))
        self.send(resent(event, self.lab))

    @rule(resource=st.sampled_from(RESOURCES))
    def a_resource_is_deleted(self, resource: Resource) -> None:
        self.send(ResourceEvent("RESOURCE_DELETED", self.lab.now(), resource))
