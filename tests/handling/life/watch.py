"""Watches what members do and say, and says what is wrong with it."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from consumer.catalog.environment import EnvironmentSpec
from consumer.dispatch import Done, OffsetMap, Work
from consumer.handling.publications import Channel, Publication
from consumer.handling.records import Item
from schemas.deadletter import parse_dead_letter
from schemas.events import ReservationEvent, ResourceEvent
from schemas.outbound import Outcome, Result
from schemas.state import Phase, ReservationState
from tests.handling.life.model import booking_of, has_ended, turning_points, wanted
from tests.handling.world import GPU

if TYPE_CHECKING:
    from tests.handling.life.lab import Lab

_A_WHILE = timedelta(minutes=6)
"""In which whatever time asked for has been done."""

_ENDS = (Outcome.RELEASED, Outcome.EXPIRED, Outcome.FAILED)
_TOLD = (Channel.OUTBOUND, Channel.DEAD_LETTER, Channel.INBOUND)


class Watch:
    """`problems` are what must not be; `story` is what happened, for whoever reads a failure."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self.problems: list[str] = []
        self.story: list[str] = []
        self.crashes = 0
        self.shared = False
        """Whether there ever was more than one member: two that look at the same moment both see a free resource."""

        self.troubled = False
        """Whether anything went wrong yet with the runtimes."""

        self.events: dict[str, dict[tuple[int, int], ReservationEvent]] = defaultdict(dict)
        self._answered: dict[tuple[int, int], bool] = {}
        """Of every record that was sent, whether it came to something."""

        self._placed: set[tuple[int, int]] = set()
        """The records of which something must come."""

        self._ids: dict[str, tuple[object, ...]] = {}
        self._revisions: dict[object, str] = {}
        self._running: dict[str, tuple[str, str] | None] = {}
        """Resource and user of the environment that was announced last, until its end was."""

        self._last: dict[str, Result] = {}

    def problem(self, text: str) -> None:
        self.tell(f"PROBLEM: {text}")
        self.problems.append(text)

    def tell(self, text: str) -> None:
        self.story.append(f"{self._lab.now():%d %H:%M:%S} {text}")

    # What happens

    def sent(self, partition: int, offset: int, event: ReservationEvent | ResourceEvent) -> None:
        self._answered[partition, offset] = isinstance(event, ResourceEvent)
        if not isinstance(event, ResourceEvent):
            self._placed.add((partition, offset))
        if isinstance(event, ReservationEvent):
            self.events[event.reservation_id][partition, offset] = event
            booking = f"{event.start:%H:%M}-{event.end:%H:%M} of {event.resource.id} by {event.user.id}"
            self.tell(f"{partition}/{offset} {event.kind} {event.reservation_id} v={event.updated_at} {booking}")
        else:
            self.tell(f"{partition}/{offset} {event.kind} {event.resource.id}")

    def comes_again(self, partition: int, done: OffsetMap | None) -> None:
        """Its next owner begins here, whatever the one before has done above that."""
        for place in self._answered:
            if place[0] == partition and (done is None or place[1] >= done.end or place[1] in done.pending):
                self._answered[place] = place not in self._placed

    def handled(self, work: Work[Item], verdict: Done[Publication]) -> None:
        if any(each.channel in _TOLD for each in verdict.publications):
            self._answered[work.assignment.partition, work.offset] = True

    def made(self, spec: EnvironmentSpec) -> None:
        name = spec.reservation_id
        self.tell(f"made {spec.name}")
        state = self._lab.state(name)
        if state is not None and state.phase is Phase.RELEASED:
            self.problem(f"{spec.name} was made although {name} has ended")
        if spec.resource.type == GPU.type and not self.shared:
            there = [each for each in self.events if any(held == spec.resource.id for held, _ in self._lab.live(each))]
            if len(there) > 1:
                self.problem(f"{spec.resource.id} is held by {there} at once")

    def published(self, message: Publication) -> None:
        match message.channel:
            case Channel.STATE if message.value is None:
                self._forgotten((message.key or b"").decode(), message.partition or 0)
            case Channel.STATE:
                self._remembered(ReservationState.model_validate_json(message.value or b""))
            case Channel.DEAD_LETTER:
                letter = parse_dead_letter(message.key, message.value, message.headers)
                self.tell(f"dead letter {letter.error_code}")
                if letter.error_code == "internal_error" or (
                    not self.troubled and letter.error_code != "resource_busy"
                ):
                    self.problem(f"a dead letter: {letter.error_code}: {letter.error_message}")
            case Channel.OUTBOUND if b".notification." not in (dict(message.headers)["ce_type"] or b""):
                self._said(Result.model_validate_json(message.value or b""))

    def _remembered(self, state: ReservationState) -> None:
        booked = (state.booking_version, state.start, state.end, state.user.id, state.resource.id)
        known = self._revisions.setdefault((state.reservation_id, *booked, *state.parameters.items()), state.revision)
        self.tell(f"state of {state.reservation_id}: {state.phase} {state.revision} {state.environment}")
        if known != state.revision:
            self.problem(f"{state.reservation_id} has two revisions of one booking: {booked}")
        booking = booking_of(self._known(state.reservation_id))
        if booking is None or booking.updated_at is None or state.phase is Phase.RELEASED:
            return
        told = (booking.updated_at, booking.start, booking.end, booking.user.id, booking.resource.id)
        if told != booked:
            self.problem(f"{state.reservation_id} is remembered as {booked} instead of {told}")

    def _known(self, name: str) -> list[ReservationEvent]:
        """All that was sent of a reservation, if all of it was handled."""
        placed = self.events[name]
        return [placed[place] for place in sorted(placed)] if all(map(self._answered.__getitem__, placed)) else []

    def _forgotten(self, name: str, partition: int) -> None:
        state = self._lab.state(name)
        self.tell(f"forgot {name}")
        if state is None:
            return
        if max(state.end, state.changed_at) + timedelta(seconds=self._lab.retention) > self._lab.now():
            self.problem(f"{name} was forgotten early: {state}")
        if state.phase is Phase.ACTIVE or state.environment:
            self.problem(f"{name} was forgotten although it runs")
        for place in [each for each in self.events[name] if self._answered[each]]:
            del self.events[name][place]

    def _said(self, result: Result) -> None:
        name, reason = result.event_id, result.reason.code if result.reason else None
        self.tell(f"said {name} {result.outcome} {reason or ''} {result.revision} {result.id[:8]}")
        what: tuple[object, ...] = (name, result.revision, result.outcome)
        if result.outcome is not Outcome.FAILED:
            what += (reason,)
        if result.outcome is Outcome.PROVISIONED:
            what += (result.access, result.environment)
        if self._ids.setdefault(result.id, what) != what:
            self.problem(f"one id for two outcomes: {self._ids[result.id]} and {what}")
        if result.outcome is Outcome.FAILED and not self.troubled and reason != "resource_busy":
            self.problem(f"{name} failed although nothing went wrong: {reason}")
        held = (result.resource_id, result.user_id)
        state = self._lab.state(name)
        if result.outcome is Outcome.PROVISIONED:
            if state is not None and state.phase is Phase.RELEASED:
                self.problem(f"{name} was provisioned after its end")
            if self._running.get(name) not in (None, held):
                self.problem(f"{name} was provisioned for {held} before {self._running[name]} was released")
            if (known := self._known(name)) and wanted(known, self._lab.now(), self._lab.policy) is None:
                self.problem(f"{name} was provisioned and should not run")
            self._running[name] = held
        elif result.outcome in _ENDS or reason == "ended_while_starting":
            self._running[name] = None
        if result.outcome is Outcome.EXPIRED and (known := self._known(name)):
            booking = wanted(known, self._lab.now() - self._lab.policy.grace, self._lab.policy)
            if booking is not None:
                self.problem(f"{name} expired before its end at {booking.end}")
        if result.outcome in (Outcome.PROVISIONED, *_ENDS):
            self._last[name] = result

    # What must hold

    def look(self) -> None:
        """At every moment. What a crash left on another runtime is removed when things have settled."""
        self.problems += [each for each in self._lab.violations if each not in self.problems]

    def look_at_peace(self) -> None:
        """When everything has settled."""
        self.look()
        now, policy = self._lab.now(), self._lab.policy
        for place, answered in self._answered.items():
            if not answered:
                self.problem(f"nothing came of record {place}")
        for name, placed in self.events.items():
            events = [placed[place] for place in sorted(placed)]
            if not any(now - _A_WHILE < point <= now for point in turning_points(events, policy)):
                self._look_at(name, events, now)

    def _look_at(self, name: str, events: list[ReservationEvent], now: datetime) -> None:
        booking, live, state = wanted(events, now, self._lab.policy), self._lab.live(name), self._lab.state(name)
        if has_ended(events) and (state is None or state.phase is not Phase.RELEASED):
            self.problem(f"{name} has ended and is remembered as {state}")
        if self._lab.exists(name) and not live:
            self.problem(f"of {name} something dead is left")
        if live and booking is None:
            self.problem(f"{name} runs and should not: {live}")
        elif live and booking is not None and live != [(booking.resource.id, booking.user.id)]:
            self.problem(f"{name} runs as {live} instead of {(booking.resource.id, booking.user.id)}")
        elif booking is not None and not live:
            last = self._last.get(name)
            booked = state.revision if state is not None else None
            if last is None or (last.outcome, last.revision) != (Outcome.FAILED, booked):
                self.problem(f"{name} does not run and nobody was told: {last}")
        running = self._running.get(name) is not None
        if running is not bool(live):
            self.problem(f"{name} was told to be {'running' if running else 'over'}, but there is {live}")
