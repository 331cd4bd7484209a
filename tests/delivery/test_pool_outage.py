"""Two Docker Engines in a pool, of which one is stopped and started again: the other takes what comes meanwhile."""

from pathlib import Path

import pytest

from tests.services import DockerEngine, KafkaBroker
from tests.support.containers import Containers
from tests.support.installation import Installation, docker_installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.docker, pytest.mark.timeout(300)]

TEMPLATES = """\
version: 1
engines:
  - {{name: one, runtime: docker, url: "{one}", capacity: 4}}
  - {{name: two, runtime: docker, url: "{two}", capacity: 4, public_host: two.example.org}}
templates:
  - name: shell
    runtime: docker
    engines: [one, two]
    image: "{image}"
    command: [sleep, "3600"]
    ports: ["80"]
    restart: always
"""
SETTINGS = {"MOORAGE_RECONCILE_INTERVAL": "1", "MOORAGE_RECONCILE_DELAY": "3"}
PATIENCE = 120.0


def test_one_engine_down_stops_nobody_on_the_other(
    kafka: KafkaBroker, docker_engine: DockerEngine, own_engine: DockerEngine, tmp_path: Path
) -> None:
    first = [Booking(str(number)) for number in range(1, 7)]
    late, next_one, too_much = Booking("11"), Booking("12"), Booking("13")
    with docker_installation(kafka.bootstrap_servers, docker_engine, tmp_path, **SETTINGS) as (ours, on_one):
        templates = TEMPLATES.format(one=docker_engine.url, two=own_engine.url, image=docker_engine.image)
        Path(ours.settings["MOORAGE_TEMPLATES"]).write_text(templates)
        on_two = Containers(own_engine.url, ours.names.instance)
        with ours.service() as service:
            begin(ours, *first)
            ours.settle(seconds=PATIENCE)
            before = on_one.reservations(), on_two.reservations()
            assert [len(names) for names in before] == [3, 3]
            staying = sorted((*before[0][1:], late.id, next_one.id))

            own_engine.halt()
            begin(ours, late)
            eventually(lambda: runs(on_one, late), what="the other engine takes it", seconds=PATIENCE)
            end(ours, before[0][0], before[1][0])
            eventually(lambda: before[0][0] not in on_one.reservations(), what="what is there ends", seconds=PATIENCE)
            service.kill()

        with ours.service("again") as service:  # which knows from the topic what is on the engine that is down
            begin(ours, late, next_one, *(each for each in first if each.id in before[0][1:]))
            eventually(lambda: runs(on_one, next_one), what="the next goes there too", seconds=PATIENCE)
            begin(ours, too_much)
            service.wait_for("reservation_failed", seconds=PATIENCE)
            assert on_one.reservations() == staying

            own_engine.resume()
            ours.settle(seconds=PATIENCE)
            eventually(lambda: running(on_two) == before[1][1:], what="the other settles too", seconds=PATIENCE)
            assert running(on_one) == staying
            assert on_two.reservations() == before[1][1:]
            assert service.stop() == 0
        seen = ours.look().read()

    assert seen.dead_letters == []
    assert seen.unanswered() == []
    assert seen.out_of_order() == []
    assert seen.told(too_much.id)[-1][1:] == ("failed", "no_capacity")
    for name, results in seen.results.items():
        for result in results:
            if result["outcome"] == "provisioned":
                place = ("docker@two", "two.example.org") if name in before[1] else ("docker@one", "127.0.0.1")
                assert (result["runtime"], result["access"]["host"]) == place


def begin(ours: Installation, *bookings: Booking) -> None:
    ours.publish(*(Message(each.start_event(), each.id.encode()) for each in bookings))


def end(ours: Installation, *names: str) -> None:
    ours.publish(*(Message(Booking(name).end_event(), name.encode()) for name in names))


def runs(containers: Containers, booking: Booking) -> bool:
    return booking.id in running(containers)


def running(containers: Containers) -> list[str]:
    return sorted(each.reservation for each in containers.all() if each.state == "running")
