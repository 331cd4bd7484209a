"""A Docker Engine that is stopped and started again while the service works: all waits, and in the end all settles."""

import urllib.request
from pathlib import Path

import pytest

from tests.services import DockerEngine, KafkaBroker, free_port
from tests.support.installation import Installation, docker_installation
from tests.support.kafka import Message
from tests.support.payloads import Booked, Booking
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.docker, pytest.mark.timeout(300)]

TEMPLATES = """\
version: 1
templates:
  - {{name: kept, match: {{type: Kept}}, runtime: docker, image: "{image}", command: [sleep, "3600"], restart: always}}
  - {{name: shell, runtime: docker, image: "{image}", command: [sleep, "3600"]}}
"""
SETTINGS = {
    "MOORAGE_RUNTIME_CONCURRENCY": "docker=8",
    "MOORAGE_RECONCILE_INTERVAL": "1",
    "MOORAGE_RECONCILE_DELAY": "3",
    "MOORAGE_END_GRACE": "2",
}
KEPT = Booked(type="Kept")
PATIENCE = 150.0


def test_an_engine_that_is_stopped_and_started_again_costs_nobody_more_than_the_outage(
    kafka: KafkaBroker, own_engine: DockerEngine, tmp_path: Path
) -> None:
    port = free_port()
    settings = SETTINGS | {"MOORAGE_HTTP_PORT": str(port)}
    kept = [Booking(str(number), resource=KEPT) for number in range(1, 5)]
    others = [Booking(str(number)) for number in range(11, 15)]
    leaving, brief = Booking("21"), Booking("22")
    late = [Booking(str(number)) for number in range(31, 39)]
    under_way = [Booking(str(number), resource=KEPT) for number in range(41, 57)]
    everyone = [*kept, *others, leaving, brief, *late, *under_way]

    with docker_installation(kafka.bootstrap_servers, own_engine, tmp_path, **settings) as (ours, containers):
        Path(ours.settings["MOORAGE_TEMPLATES"]).write_text(TEMPLATES.format(image=own_engine.image))
        with ours.service() as service:
            begin(ours, *kept, *others, leaving)
            ours.settle(seconds=PATIENCE)
            assert containers.reservations() == ids(*kept, *others, leaving)

            begin(ours, *under_way)
            eventually(lambda: len(containers.all()) > 10, what="some are under way")
            own_engine.halt()
            begin(ours, *late, brief)
            end(ours, leaving, brief)
            begin(ours, kept[0])  # the platform says it twice
            outage = 'moorage_runtime_outage{runtime="docker"}'
            eventually(lambda: outage in metrics(port), what="the breaker opens")
            service.wait_for("not_reconciled", times=4)
            waiting = ours.kafka.lag(ours.names.group, ours.names.inbound)
            assert sum(waiting.values()) > 0
            assert ours.kafka.count(ours.names.dead_letters) == 0

            own_engine.resume()
            ours.settle(seconds=PATIENCE)

            def settled() -> bool:
                running = {each.reservation for each in containers.all() if each.state == "running"}
                return running == set(ids(*kept, *late, *under_way)) and len(containers.all()) == len(running)

            eventually(settled, what="what shall run does, and nothing else is there", seconds=PATIENCE, every=0.5)
            assert outage not in metrics(port)
            assert service.stop() == 0
        seen = ours.look().read()

    assert seen.dead_letters == []
    assert seen.unanswered() == []
    assert seen.out_of_order() == []
    assert seen.arbitrary_ids() == []
    last = {each.id: seen.told(each.id)[-1] for each in everyone}
    assert {last[each.id] for each in (*kept, *late, *under_way)} == {("EVENT_START", "provisioned", None)}
    # As their ENDs find them: the one has been stopped and may have been told as ended, the other may never have begun.
    assert {last[each.id][1:] for each in (leaving, brief)} <= {("released", None), ("skipped", "nothing_to_release")}
    assert {last[each.id][1] for each in others} == {"failed"}
    assert {last[each.id][2] for each in others} <= {"ended", "lost"}
    assert {len(seen.told(each.id)) for each in others} == {2}, "each is told once"


def begin(ours: Installation, *bookings: Booking) -> None:
    ours.publish(*(Message(each.start_event(), each.id.encode()) for each in bookings))


def end(ours: Installation, *bookings: Booking) -> None:
    ours.publish(*(Message(each.end_event(), each.id.encode()) for each in bookings))


def ids(*bookings: Booking) -> list[str]:
    return sorted(each.id for each in bookings)


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")
