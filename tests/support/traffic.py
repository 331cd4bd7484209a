"""Traffic: reservations that come and go for as long as a test needs them, and every now and then an unreadable record.

Each event carries a `traceparent` of its own, which Moorage hands on: whoever reads the topics afterwards can say which
record an outcome belongs to (tests.support.ledger). The events of a reservation are in order and under its key, those
of different ones are mixed.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.background import in_background
from tests.support.installation import Installation
from tests.support.kafka import Kafka, Message
from tests.support.payloads import Booking
from tests.support.workload import poison

_LIVES: tuple[Callable[[Booking], list[bytes]], ...] = (
    lambda b: [b.start_event()],
    lambda b: [b.start_event(), b.end_event()],
    lambda b: [b.created(), b.start_event(), b.deleted()],
    lambda b: [b.created(), b.deleted()],
    lambda b: [b.start_event(), b.start_event(), b.end_event(), b.start_event(), b.end_event()],
    lambda b: [b.created(), b.start_event(), b.start_event(), b.start_event(), b.end_event()],
    lambda b: [b.end_event(), b.start_event()],
)
_AT_ONCE = 60
"""Reservations whose events are mixed."""

_POISON_EVERY = 97
_PAUSE = 0.1


def messages(seed: int) -> Iterator[Message]:
    """Events without end; the same for the same seed, apart from the moments they name."""
    rng = random.Random(seed)  # noqa: S311 - traffic, not a secret
    unreadable = [each.message for each in poison(rng)]
    numbers = itertools.count(10_000)
    underway = [_life(next(numbers), rng) for _ in range(_AT_ONCE)]
    for count in itertools.count(1):
        if count % _POISON_EVERY == 0:
            yield rng.choice(unreadable)
        place = rng.randrange(_AT_ONCE)
        while (message := next(underway[place], None)) is None:
            underway[place] = _life(next(numbers), rng)
        yield message


def _life(number: int, rng: random.Random) -> Iterator[Message]:
    booking = Booking(str(number))
    for value in rng.choice(_LIVES)(booking):
        trace = f"00-{rng.randrange(1, 1 << 128):032x}-{rng.randrange(1, 1 << 64):016x}-01"
        yield Message(value, booking.id.encode(), (("traceparent", trace.encode()),))


@contextmanager
def traffic(ours: Installation, *, seed: int, per_second: int, most_waiting: int = 400) -> Iterator[None]:
    """Publish all the time until the block is left.

    Never further ahead of the group than `most_waiting` records, so that slow machines keep up.
    """

    def publish(over: threading.Event) -> None:
        names = ours.names
        with Kafka(ours.kafka.bootstrap_servers) as kafka:
            stream = messages(seed)
            while not over.is_set():
                began = time.monotonic()
                if sum(kafka.lag(names.group, names.inbound).values()) < most_waiting:
                    kafka.publish(names.inbound, itertools.islice(stream, int(per_second * _PAUSE)))
                over.wait(_PAUSE - (time.monotonic() - began))

    with in_background(publish, name="platform"):
        yield
