"""Kill -9, again and again in the middle of the work: the same environments as on a quiet day, and nothing twice.

Real Kafka, real Docker. Moments are counted in messages published, not in seconds, and each life finds new work, so
that each kill falls into the middle on any machine; the seed says which moments.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.services import DockerEngine, KafkaBroker
from tests.support.containers import Container, Lives
from tests.support.installation import docker_installation
from tests.support.kafka import Message
from tests.support.verifier import Verifier
from tests.support.workload import Workload, workload

pytestmark = [pytest.mark.kafka, pytest.mark.docker, pytest.mark.timeout(150)]

SEED = 7
KILLS = 4


@dataclass(frozen=True)
class Day:
    """A day with accidents."""

    workload: Workload
    lives: Lives
    seen: Verifier
    living: list[Container]
    seen_after_the_end: Verifier
    left: list[Container]
    kills: list[int]


@pytest.fixture(scope="module")
def day(kafka: KafkaBroker, docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    rng = random.Random(SEED)  # noqa: S311 - moments, not secrets
    folder = tmp_path_factory.mktemp("kill")
    # A static member: the group knows it again at once, and need not wait until the dead one is missed.
    static = {"MOORAGE_GROUP_INSTANCE": "one"}
    with docker_installation(kafka.bootstrap_servers, docker_engine, folder, **static) as (ours, containers):
        work = workload(SEED, reservations=40, events=130)
        parts = _in_parts(work.messages, KILLS)
        kills: list[int] = []
        with containers.watched() as lives:
            for number, part in enumerate(parts):
                told = ours.kafka.count(ours.names.outbound)
                ours.publish(*part)
                with ours.service(f"life-{number}"):
                    ours.wait_for(ours.names.outbound, told + rng.randrange(1, len(part) // 2))
                    time.sleep(rng.uniform(0.0, 0.2))
                    kills.append(sum(ours.kafka.lag(ours.names.group, ours.names.inbound).values()))
                if number == 1:  # and one that does not get far
                    stillborn = ours.launch("stillborn")
                    time.sleep(rng.uniform(0.5, 1.5))
                    stillborn.kill()
            with ours.service("last") as service:
                ours.settle()
                seen, living = ours.look(), containers.all()
                seen.read()
                ours.publish(*work.ends(work.living))
                ours.settle()
                left = containers.all()
                assert service.stop() == 0
            yield Day(work, lives, seen, living, ours.look(), left, kills)


def _in_parts(messages: list[Message], count: int) -> list[list[Message]]:
    """One part for each life, so that however fast the one before was, there is enough to be told of."""
    size = -(-len(messages) // count)
    return [messages[begin : begin + size] for begin in range(0, len(messages), size)]


def test_it_was_killed_while_there_was_work_left(day: Day) -> None:
    assert len(day.kills) == KILLS
    assert min(day.kills) > 0


def test_the_same_environments_live_as_if_nothing_had_happened(day: Day) -> None:
    assert sorted(container.reservation for container in day.living) == day.workload.living
    assert {container.state for container in day.living} == {"running"}
    for container in day.living:
        result = day.seen.last(container.reservation, "provisioned")
        assert container.resource == day.workload.resource_of(container.reservation) == result["resourceId"]
        assert container.name == result["environment"]
        assert container.ports == {port["hostPort"] for port in (result["access"] or {}).get("ports", ())}


def test_no_reservation_ever_had_two_environments(day: Day) -> None:
    assert {reservation: most for reservation, most in day.lives.most_at_once().items() if most > 1} == {}


def test_nothing_is_lost(day: Day) -> None:
    assert day.seen.unanswered() == []
    assert day.seen.altered_dead_letters(day.workload) == []


def test_stories_are_told_in_order_and_what_is_repeated_is_harmless(day: Day) -> None:
    assert day.seen.untold(day.workload, repeats=True) == []
    assert day.seen.out_of_order(repeats=True) == []
    assert day.seen.arbitrary_ids() == []


def test_after_all_have_ended_nothing_is_left(day: Day) -> None:
    assert day.left == []
    assert day.seen_after_the_end.unanswered() == []
    assert day.seen_after_the_end.out_of_order(repeats=True) == []
    assert day.seen_after_the_end.uncommitted() == {}
