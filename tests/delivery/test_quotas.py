"""Quotas on a real Kafka and a real Docker Engine: who is above one is told so or waits, also beyond a kill -9."""

from pathlib import Path

import pytest

from tests.services import DockerEngine, KafkaBroker
from tests.support.installation import TEMPLATES, docker_installation
from tests.support.kafka import Message
from tests.support.payloads import Booked, Booking
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.docker, pytest.mark.timeout(150)]

RUNS = ("EVENT_START", "provisioned", None)
QUOTAS = "quotas: {user: {environments: 2}, total: {memory: 256Mi}, queue: true}\ntemplates:"
PAGE = Booked(13, "Page 1", "Web page")


def starts(*bookings: Booking) -> list[Message]:
    return [Message(booking.start_event(), booking.id.encode()) for booking in bookings]


def test_a_quota_holds_beyond_a_crash_and_whoever_waits_comes_in(
    kafka: KafkaBroker, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    with docker_installation(kafka.bootstrap_servers, docker_engine, tmp_path) as (ours, containers):
        templates = TEMPLATES.format(image=docker_engine.image).replace("templates:", QUOTAS)
        templates = templates.replace("{type: Web page}", "{type: Web page}\n    quotas: {queue: false}")
        (tmp_path / "templates.yaml").write_text(templates)
        first, second, third, page = Booking("1"), Booking("2"), Booking("3"), Booking("4", resource=PAGE)
        other, large = Booking("5", user="other"), Booking("6", user="other", parameters='{"cpu_limit": "600m"}')

        def running() -> list[str]:
            return containers.reservations()

        with ours.service() as service:
            ours.publish(*starts(first, second))
            eventually(lambda: running() == ["1", "2"], what="two environments run")
            ours.publish(*starts(third, page, other, large))
            eventually(lambda: running() == ["1", "2", "5"], what="the other user's runs too")
            service.wait_for("waits")
            eventually(lambda: ours.look().told("4"), what="the page is refused")
            service.kill()
        with ours.service() as service:
            service.wait_for("waits")
            assert running() == ["1", "2", "5"]
            ours.publish(Message(first.end_event(), first.id.encode()))
            eventually(lambda: running() == ["2", "3", "5"], what="who waited comes in")
            ours.settle()
            assert service.stop() == 0

        seen = ours.look()
        assert seen.told("3") == (RUNS,)
        assert seen.told("4") == (("EVENT_START", "failed", "quota_exceeded"),)
        assert seen.told("6") == (("EVENT_START", "failed", "limit_above_maximum"),)
        assert seen.dead_letters == []
