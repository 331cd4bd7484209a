"""Members come and go: whoever owns a partition goes on exactly where the last owner stopped.

A real Kafka and several Moorage processes in one group; their runtime is the in-memory one, since what counts here is
which events were handled and in which order.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.background import in_background
from tests.support.installation import Installation
from tests.support.kafka import Kafka, Message
from tests.support.payloads import Booking
from tests.support.service import DoubleService

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

STORY = (
    ("EVENT_START", "provisioned", None),
    ("EVENT_START", "provisioned", None),
    ("EVENT_END", "released", None),
    ("EVENT_START", "skipped", "already_ended"),
)


def life(booking: Booking) -> list[Message]:
    """START, a duplicate of it, END, and a START that is too late."""
    values = [booking.start_event(), booking.start_event(), booking.end_event(), booking.start_event()]
    return [Message(value, booking.id.encode()) for value in values]


@contextmanager
def busy(ours: Installation) -> Iterator[list[str]]:
    """New reservations all the time until the block is left, each with its whole life; lists them.

    There is always something to do and never more than a few hundred events, so that slow machines keep up.
    """
    reservations: list[str] = []

    def publish(over: threading.Event) -> None:
        with Kafka(ours.kafka.bootstrap_servers) as kafka:
            for first in itertools.count(3000, 20):
                bookings = [Booking(str(number)) for number in range(first, first + 20)]
                for step in zip(*map(life, bookings), strict=True):
                    kafka.publish(ours.names.inbound, step)
                    while sum(kafka.lag(ours.names.group, ours.names.inbound).values()) > 400 and not over.is_set():
                        time.sleep(0.05)
                reservations.extend(booking.id for booking in bookings)
                if over.is_set():
                    return

    with in_background(publish, name="platform"):
        yield reservations


def test_members_that_join_and_leave_lose_nothing_and_keep_the_order(ours: Installation) -> None:
    with busy(ours) as reservations, ours.service("stays", kind=DoubleService) as stays:
        stays.wait_for("reservation_provisioned", times=50)
        with ours.service("visits", kind=DoubleService) as visits:
            stays.wait_for("partitions_revoked")
            visits.wait_for("reservation_provisioned", times=50)
            assert visits.stop() == 0
        stays.wait_for("partitions_assigned", times=3)
        handled = len(stays.events("reservation_provisioned"))
        stays.wait_for("reservation_provisioned", times=handled + 50)
        assert stays.stop() == 0
    with ours.service("finishes", kind=DoubleService) as finishes:
        ours.settle()
        assert finishes.stop() == 0

    seen = ours.look()
    assert Counter(seen.told(reservation) for reservation in reservations) == {STORY: len(reservations)}
    assert seen.unanswered(exactly=True) == []
