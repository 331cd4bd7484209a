"""What people and machines are told of a real reservation: an operator's words, a zone's time, and where time went."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.services import DockerEngine, KafkaBroker
from tests.support.installation import docker_installation
from tests.support.kafka import Message
from tests.support.payloads import Booking

pytestmark = [pytest.mark.kafka, pytest.mark.docker, pytest.mark.timeout(150)]

TEMPLATES = """\
version: 1
messages:
  released: "Arrivederci, {{user}}!"
templates:
  - name: slow
    runtime: docker
    image: {image}
    command: [sh, -c, "mkdir /tmp/page && sleep 3 && echo up > /tmp/page/index.html && exec httpd -f -h /tmp/page"]
    ports: ["80"]
    ready: {{http: 80}}
    messages:
      provisioned: "{{resource}} è pronta fino alle {{until}}.[ Pagina: {{url}}][ Accesso: {{ssh}}]"
"""


def test_it_is_told_in_the_operators_words_and_zone_and_with_timings(
    kafka: KafkaBroker, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    kathmandu = ZoneInfo("Asia/Kathmandu")  # no summer time, so that the text is the same all year round
    booking = Booking("1841")
    with docker_installation(kafka.bootstrap_servers, docker_engine, tmp_path, MOORAGE_TIME_ZONE=kathmandu.key) as (
        ours,
        _,
    ):
        (tmp_path / "templates.yaml").write_text(TEMPLATES.format(image=docker_engine.image))
        with ours.service() as service:
            for event in (booking.start_event(), booking.start_event(), booking.end_event()):
                ours.publish(Message(event, booking.id.encode()))
                ours.settle()
            assert service.stop() == 0
        first, again, released = (seen := ours.look()).results[booking.id]
        ready, over = seen.notifications[booking.id]

    end = datetime.fromisoformat(first["end"]).astimezone(kathmandu)
    told_at = datetime.fromisoformat(first["occurredAt"]).astimezone(kathmandu)
    day = f" on {end.day} {end:%B}" if end.date() != told_at.date() else ""
    year = f" {end.year}" if end.year != told_at.year else ""
    name = first["resourceName"]
    until, url = f"{end:%H:%M} UTC+0545{day}{year}", first["access"]["url"]
    assert ready["message"] == f"{name} è pronta fino alle {until}. Pagina: {url}"
    assert over["message"] == f"Arrivederci, {first['username']}!"
    assert first["end"].endswith("Z")  # machines are told in UTC

    times = first["timings"]
    assert round(sum(times[part] for part in ("queued", "pulled", "started", "ready")), 3) == times["total"]
    assert times["ready"] > 0  # httpd needs three seconds, and is looked at long before
    assert times["pulled"] == 0
    assert (again["id"], "timings" in again, "timings" in released) == (first["id"], False, False)
