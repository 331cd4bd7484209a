"""A workload: reservations that live through everything the platform does, and what must have become of each.

Every story is written down twice, as events and as what they come to, so the model is as small as it can be: a table.
A seeded generator deals the stories out, mixes their events and spreads them over partitions. Most reservations keep
their events in order, since the platform keys them by reservation; scattered ones have theirs in any order, under
foreign keys or none, and only stories with one possible end are told that way.
"""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.support.kafka import Headers, Message
from tests.support.payloads import Booked, Booking, batch, ping, resource_event

PARTITIONS = 8

START, END, CREATED, UPDATED, DELETED = (f"EVENT_{each}" for each in ("START", "END", "CREATED", "UPDATED", "DELETED"))

Told = tuple[str, str, str | None]
"""The event's type, the outcome, and the reason's code."""

PROVISIONED: Told = (START, "provisioned", None)
ENDED_ALREADY: Told = (START, "skipped", "already_ended")


@dataclass(frozen=True)
class Story:
    """What happens to one reservation and what comes of it."""

    name: str
    events: Callable[[Booking], list[bytes]]
    told: tuple[Told, ...]
    lives: bool
    scattered: bool = False
    web: bool = False
    resource: Booked | None = None
    """Where the environment is in the end, when not where it was booked."""


def _past(booking: Booking) -> Booking:
    now = datetime.now(UTC)
    return booking.but(start=now - timedelta(hours=2), end=now - timedelta(minutes=1))


def _later(booking: Booking) -> Booking:
    return booking.but(start=booking.start + timedelta(hours=6), end=booking.end + timedelta(hours=6))


DOOMED_RACK = Booked(99, "Doomed rack")
ELSEWHERE = Booked(77, "Rack 4 — the other “one”")

STORIES = (
    Story("runs", lambda b: [b.start_event()], (PROVISIONED,), lives=True, web=True),
    Story("runs, said three times", lambda b: [b.start_event() for _ in range(3)], (PROVISIONED,) * 3, lives=True),
    Story(
        "ends",
        lambda b: [b.start_event(), b.end_event()],
        (PROVISIONED, (END, "released", None)),
        lives=False,
    ),
    Story(
        "ends, and everything is said twice",
        lambda b: [b.start_event(), b.start_event(), b.end_event(), b.end_event(), b.start_event()],
        (PROVISIONED, PROVISIONED, (END, "released", None), (END, "released", None), ENDED_ALREADY),
        lives=False,
    ),
    Story(
        "ends before it starts",
        lambda b: [b.end_event(), b.start_event(), b.start_event()],
        ((END, "skipped", "nothing_to_release"), ENDED_ALREADY, ENDED_ALREADY),
        lives=False,
    ),
    Story(
        "is deleted while it runs",
        lambda b: [b.created(), b.start_event(), b.deleted(), b.start_event()],
        ((CREATED, "skipped", "remembered"), PROVISIONED, (DELETED, "released", None), ENDED_ALREADY),
        lives=False,
    ),
    Story(
        "is extended, and an old update comes late",
        lambda b: [
            b.created(),
            b.start_event(),
            b.but(end=b.end + timedelta(hours=1), version=5).updated(),
            b.but(end=b.end - timedelta(hours=1), version=3).updated(),
        ],
        (
            (CREATED, "skipped", "remembered"),
            PROVISIONED,
            (UPDATED, "updated", None),
            (UPDATED, "skipped", "stale_update"),
        ),
        lives=True,
    ),
    Story(
        "is shortened into the past",
        lambda b: [b.start_event(), _past(b).but(version=5).updated()],
        (PROVISIONED, (UPDATED, "released", "ended_by_update")),
        lives=False,
    ),
    Story(
        "moves to another resource",
        lambda b: [b.start_event(), b.but(resource=ELSEWHERE, version=5).updated()],
        (PROVISIONED, (UPDATED, "released", "moved"), (UPDATED, "provisioned", None)),
        lives=True,
        resource=ELSEWHERE,
    ),
    Story(
        "is postponed and brought forward again",
        lambda b: [b.start_event(), _later(b).but(version=5).updated(), b.but(version=6).updated()],
        (PROVISIONED, (UPDATED, "released", "postponed"), (UPDATED, "provisioned", None)),
        lives=True,
    ),
    Story(
        "is over when its start comes",
        lambda b: [_past(b).start_event()],
        ((START, "skipped", "already_over"),),
        lives=False,
    ),
    Story(
        "asks for what nobody may have",
        lambda b: [b.but(parameters=json.dumps({"image": "evil/miner:latest"})).start_event()],
        ((START, "failed", "image_not_allowed"),),
        lives=False,
    ),
    Story("is only booked", lambda b: [b.created()], ((CREATED, "skipped", "remembered"),), lives=False),
    Story(
        "scattered: runs and is extended",
        lambda b: [b.start_event(), b.start_event(), b.but(end=b.end + timedelta(hours=1), version=5).updated()],
        (),
        lives=True,
        scattered=True,
    ),
    Story(
        "scattered: ends",
        lambda b: [b.start_event(), b.start_event(), b.end_event(), b.start_event()],
        (),
        lives=False,
        scattered=True,
    ),
    Story(
        "scattered: is deleted",
        lambda b: [b.created(), b.start_event(), b.but(version=4).updated(), b.deleted(), b.start_event()],
        (),
        lives=False,
        scattered=True,
    ),
)


DOOMED = (STORIES[1], STORIES[6])
"""Stories that are also told on a resource that is deleted in the end."""


@dataclass(frozen=True)
class Poison:
    """A record that nobody can read, and the code it is put aside with."""

    code: str
    message: Message


@dataclass
class Workload:
    """What is published, and what is expected of it."""

    stories: dict[str, Story] = field(default_factory=dict)
    bookings: dict[str, Booking] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)
    doomed: Booked = DOOMED_RACK
    """A resource that is deleted at last, with what runs on it."""

    @property
    def living(self) -> list[str]:
        """The reservations that must have an environment once all of `messages` were handled."""
        return sorted(each for each, story in self.stories.items() if story.lives)

    @property
    def on_doomed(self) -> list[str]:
        return sorted(each for each in self.living if self.resource_of(each) == str(self.doomed.id))

    def resource_of(self, reservation: str) -> str:
        story, booking = self.stories[reservation], self.bookings[reservation]
        return str((story.resource or booking.resource).id)

    def resource_deleted(self) -> list[Message]:
        return [Message(resource_event("RESOURCE_DELETED", self.doomed), b"resource-99")]

    def ends(self, reservations: Iterable[str]) -> list[Message]:
        """What ends these, in each of the ways there are."""
        messages, left = [], list(reservations)
        while left:
            booking = self.bookings[left.pop()]
            match len(left) % 3:
                case 0:
                    messages.append(Message(booking.end_event(), booking.id.encode()))
                case 1:
                    messages.append(Message(booking.deleted(), booking.id.encode()))
                case _:
                    both = [booking, self.bookings[left.pop()]]
                    messages.append(Message(batch(END, booking.user, both), None))
        return messages


def workload(seed: int, *, reservations: int = 60, events: int = 200) -> Workload:
    """The same workload for the same seed, apart from the moment it is made at."""
    rng = random.Random(seed)  # noqa: S311 - a workload, not a secret
    made = Workload()
    rows: list[list[Message]] = []  # each row keeps its order
    base = rng.randrange(10_000, 90_000)
    for number in range(reservations - 4):
        story = STORIES[number % len(STORIES)]
        booking = Booking(
            # Numbers as the platform has them, and names that other systems may use.
            id=str(base + number) if number % 3 else f"res/{base}-ü{number}",
            user=f"user-{rng.randrange(20)}",
            resource=made.doomed if story in DOOMED and number < len(STORIES) else _resource(rng, web=story.web),
        )
        made.stories[booking.id], made.bookings[booking.id] = story, booking
        values = story.events(booking)
        if story.scattered:
            rows += [[_scattered(rng, value)] for value in values]
        else:
            rows.append([_keyed(rng, booking, value) for value in values])
    rows.append(_batches(rng, made, base + reservations))
    rows += [[Message(ping(), b"ping")], [Message(resource_event("RESOURCE_UPDATED", Booked()), b"12")]]
    made.poison = poison(rng)
    rows += [[each.message] for each in made.poison]
    _fill(rng, made, rows, events)
    made.messages = _mixed(rng, rows)
    return made


def _resource(rng: random.Random, *, web: bool) -> Booked:
    number = rng.randrange(1, 40)
    return Booked(number, f"Node {number} “ß”", "Web page" if web else "Shell")


def _keyed(rng: random.Random, booking: Booking, value: bytes) -> Message:
    trace = f"00-{rng.randrange(1, 1 << 128):032x}-{rng.randrange(1, 1 << 64):016x}-01".encode()
    return Message(value, booking.id.encode(), (("traceparent", trace), ("source", None)))


def _scattered(rng: random.Random, value: bytes) -> Message:
    key = rng.choice([None, b"somebody-elses-key", b"\xff\xfe"])
    return Message(value, key, partition=rng.randrange(PARTITIONS))


def _batches(rng: random.Random, made: Workload, base: int) -> list[Message]:
    """One user's four bookings start in one record; two of them end in another, under the same key."""
    user = "batch-user"
    bookings = [Booking(id=str(base + number), user=user, resource=_resource(rng, web=False)) for number in range(4)]
    stays = Story("starts in a batch", lambda b: [], (PROVISIONED,), lives=True)
    ends = Story("starts and ends in batches", lambda b: [], (PROVISIONED, (END, "released", None)), lives=False)
    for booking, story in zip(bookings, [stays, ends, ends, stays], strict=True):
        made.stories[booking.id], made.bookings[booking.id] = story, booking
    return [
        Message(batch(START, user, bookings), user.encode()),
        Message(batch(END, user, bookings[1:3]), user.encode()),
    ]


def poison(rng: random.Random) -> list[Poison]:
    """Records of every kind that cannot be read, with headers that are nobody's business."""
    headers: Headers = (("x-origin", b"\x00\xff\x80"), ("x-null", None), ("x-origin", b"again"), ("", b"nameless"))
    when = Booking("1")
    upside_down = when.but(start=when.end, end=when.start).start_event()
    values: list[tuple[str, bytes | None, bytes | None]] = [
        ("not_json", b"\xff\xfe{]", b"\x00\x01"),
        ("not_an_object", b'["EVENT_START"]', None),
        ("unknown_event_type", b'{"eventType":"EVENT_EXPLODED","timestamp":"2026-03-02T07:00:00Z"}', b"key"),
        ("invalid_field", upside_down, b"1"),
        ("empty", None, b"a tombstone"),
        ("empty", None, None),
        ("too_large", b'{"eventType":"' + b"x" * 300_000 + b'"}', b"large"),
    ]
    return [
        Poison(code, Message(value, key, headers, partition=rng.randrange(PARTITIONS))) for code, value, key in values
    ]


def _fill(rng: random.Random, made: Workload, rows: list[list[Message]], events: int) -> None:
    """Repeat what may be repeated, with fresh timestamps, until there are as many events as asked for."""
    said = sum(map(len, rows))
    running = [row for row in rows if row and _story(made, row[0]) is STORIES[1]]
    for _ in range(events - said):
        row = rng.choice(running)
        booking = made.bookings[_id(row[0])]
        row.append(_keyed(rng, booking, booking.start_event()))
        story = made.stories[booking.id]
        made.stories[booking.id] = Story(
            story.name, story.events, (*story.told, PROVISIONED), lives=True, resource=story.resource
        )


def _story(made: Workload, message: Message) -> Story | None:
    return made.stories.get(_id(message))


def _id(message: Message) -> str:
    return (message.key or b"").decode("utf-8", "replace")


def _mixed(rng: random.Random, rows: list[list[Message]]) -> list[Message]:
    """All messages in one order, in which each row keeps its own."""
    order = [index for index, row in enumerate(rows) for _ in row]
    rng.shuffle(order)
    left = [iter(row) for row in rows]
    return [next(left[index]) for index in order]
