"""What operators order on the command line takes effect on a service that runs, as the platform's own events do."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.services import DockerEngine, KafkaBroker
from tests.support.installation import Installation, docker_installation
from tests.support.kafka import Message
from tests.support.payloads import Booked, Booking
from tests.support.service import DoubleService

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

HOUR = timedelta(hours=1)


def moorage(ours: Installation, *arguments: str, code: int = 0) -> str:
    """Run a command as an operator does, with the service's settings; what it writes to standard output."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "consumer", "env", *arguments],
        env=os.environ | ours.settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def rows(ours: Installation, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in moorage(ours, "list", "--json", *options).splitlines()]


def listed(ours: Installation, *options: str) -> list[dict[str, Any]]:
    return rows(ours, "--no-runtimes", *options)


def test_a_reservation_is_extended_and_then_released(ours: Installation) -> None:
    end = datetime.now(UTC) + HOUR
    booking, other = Booking("1841", end=end, version=3), Booking("1842", end=end)

    def say(*values: bytes) -> None:
        ours.publish(*(Message(value, booking.id.encode()) for value in values))
        ours.settle()

    with ours.service(kind=DoubleService) as service:
        ours.publish(Message(other.start_event(), other.id.encode()))
        say(booking.created(), booking.start_event())

        extended = moorage(ours, "extend", booking.id, "--by", "1h", "--yes", "--wait", "30")
        assert "  updated  " in extended.splitlines()[-1]
        say(booking.start_event(), booking.updated())  # what is repeated from before has the old end
        ends = {row["reservation"]: datetime.fromisoformat(row["until"]) for row in listed(ours)}
        assert ends == {booking.id: end + HOUR, other.id: end}

        again = moorage(ours, "extend", other.id, "--until", (end + 2 * HOUR).isoformat(), "--yes", "--wait", "30")
        assert "  updated  " in again.splitlines()[-1]

        released = moorage(ours, "release", booking.id, "--yes", "--wait", "30")
        assert "  released  " in released.splitlines()[-1]
        say(booking.start_event())
        moorage(ours, "extend", booking.id, "--by", "1h", "--yes", code=1)
        assert [row["reservation"] for row in listed(ours)] == [other.id]
        assert {row["reservation"]: row["phase"] for row in listed(ours, "--all")} == {
            booking.id: "RELEASED",
            other.id: "ACTIVE",
        }
        assert service.stop() == 0

    seen = ours.look()
    assert seen.told(booking.id) == (
        ("EVENT_CREATED", "skipped", "remembered"),
        ("EVENT_START", "provisioned", None),
        ("EVENT_UPDATED", "updated", None),
        ("EVENT_START", "provisioned", None),
        ("EVENT_UPDATED", "skipped", "stale_update"),
        ("EVENT_END", "released", None),
        ("EVENT_START", "skipped", "already_ended"),
    )
    assert seen.told(other.id) == (("EVENT_START", "provisioned", None), ("EVENT_UPDATED", "updated", None))
    assert datetime.fromisoformat(seen.last(booking.id, "updated")["end"]) == end + HOUR
    assert seen.dead_letters == []


@pytest.mark.docker
def test_operators_see_what_runs_in_containers_and_end_it(
    kafka: KafkaBroker, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    end = datetime.now(UTC) + HOUR
    booking = Booking("1841", user="mario", resource=Booked(12, "GPU Server 1", "Web page"), end=end)
    with docker_installation(kafka.bootstrap_servers, docker_engine, tmp_path) as (ours, containers):
        with ours.service() as service:
            ours.publish(Message(booking.start_event(), booking.id.encode()))
            ours.settle()
            (container,) = containers.all()
            (port,) = container.ports

            (row,) = rows(ours)
            assert (row["reservation"], row["user"], row["phase"], row["status"], row["runtime"]) == (
                "1841",
                "user-mario",
                "ACTIVE",
                "running",
                "docker",
            )
            assert (row["environment"], row["access"]["url"]) == (container.name, f"http://127.0.0.1:{port}")
            shown = moorage(ours, "show", "1841")
            assert f"docker status: running\ndocker name: {container.name}\ndocker id: {container.id}\n" in shown
            assert "EVENT_START provisioned\n" in shown

            moorage(ours, "extend", "1841", "--by", "30m", "--yes", "--wait", "30")
            (row,) = rows(ours)
            assert (row["until"], row["status"]) == ((end + HOUR / 2).isoformat(), "running")
            assert containers.all() == [container]  # it runs on, untouched

            moorage(ours, "release", "1841", "--yes", "--wait", "30")
            assert containers.all() == []
            assert rows(ours) == []
            assert service.stop() == 0
        events = [json.loads(message.value or b"")["eventType"] for message in ours.kafka.read(ours.names.inbound)]
        assert events == ["EVENT_START", "EVENT_UPDATED", "EVENT_END"]  # through the topic, never around it
