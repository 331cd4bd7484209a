"""The main job, end to end: every event of a busy day ends as a result or a dead letter, and what runs is what should.

A real Apache Kafka, a real Docker Engine, Moorage as a process; two hundred events for sixty reservations. The day is
lived once, by the fixture, and then looked at from all sides.
"""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.services import DockerEngine, KafkaBroker
from tests.support.containers import Container, Lives
from tests.support.installation import docker_installation
from tests.support.verifier import Verifier
from tests.support.workload import STORIES, Workload, workload

pytestmark = [pytest.mark.kafka, pytest.mark.docker, pytest.mark.timeout(150)]

SEED = 20260302


@dataclass(frozen=True)
class Day:
    """What was published, and what was seen when."""

    workload: Workload
    lives: Lives
    seen: Verifier
    living: list[Container]
    pages: dict[str, str]
    seen_after_the_end: Verifier
    left: list[Container]
    exit_code: int
    log: str


@pytest.fixture(scope="module")
def day(kafka: KafkaBroker, docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    folder = tmp_path_factory.mktemp("main-job")
    with docker_installation(kafka.bootstrap_servers, docker_engine, folder) as (ours, containers):
        work = workload(SEED)
        third = len(work.messages) // 3
        ours.publish(*work.messages[:third])
        with containers.watched() as lives, ours.service() as service:
            ours.publish(*work.messages[third : 2 * third])
            ours.settle()
            ours.publish(*work.messages[2 * third :])  # about reservations that run, or have ended
            ours.settle()
            seen, living = ours.look().read(), containers.all()
            pages = {each: page(seen, each) for each, story in work.stories.items() if story.web}
            # A deleted resource ends what runs on it, the other reservations end by themselves.
            ours.publish(*work.resource_deleted())
            ours.settle()
            ours.publish(*work.ends(set(work.living) - set(work.on_doomed)))
            ours.settle()
            left = containers.all()
            exit_code = service.stop()
            yield Day(work, lives, seen, living, pages, ours.look().read(), left, exit_code, service.output())


def page(seen: Verifier, reservation: str) -> str:
    """What a user finds who follows the result."""
    url = seen.last(reservation, "provisioned")["access"]["url"]
    with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - of the environment we asked for
        return str(reply.read(), "utf-8").strip()


def test_the_day_was_busy_enough(day: Day) -> None:
    assert len(day.workload.messages) == 200
    assert len(day.workload.stories) == 60
    assert {story.name for story in STORIES} <= {story.name for story in day.workload.stories.values()}
    assert len({message.partition for message in day.seen.inbound}) == 8
    ended = {each for each, story in day.workload.stories.items() if ("EVENT_END", "released", None) in story.told}
    assert ended & day.seen.overtaken
    assert ended - day.seen.overtaken


def test_exactly_the_right_environments_live(day: Day) -> None:
    assert sorted(container.reservation for container in day.living) == day.workload.living
    assert {container.state for container in day.living} == {"running"}


def test_environments_are_where_their_reservations_are_and_called_what_results_say(day: Day) -> None:
    for container in day.living:
        result = day.seen.last(container.reservation, "provisioned")
        assert container.resource == result["resourceId"] == day.workload.resource_of(container.reservation)
        assert container.name == result["environment"]
        assert container.ports == {port["hostPort"] for port in result["access"]["ports"]}


def test_who_follows_a_result_finds_the_environment_of_that_reservation(day: Day) -> None:
    assert day.pages == {reservation: reservation for reservation in day.pages}
    assert day.pages


def test_every_event_has_its_result_and_no_result_lacks_its_event(day: Day) -> None:
    assert day.seen.unanswered(exactly=True) == []


def test_each_reservation_was_told_its_story_in_order(day: Day) -> None:
    assert day.seen.untold(day.workload) == []
    assert day.seen.out_of_order() == []


def test_unreadable_records_are_dead_letters_byte_for_byte(day: Day) -> None:
    assert day.seen.altered_dead_letters(day.workload) == []
    assert len(day.seen.dead_letters) == len(day.workload.poison)


def test_ids_follow_from_what_happened_so_duplicates_share_theirs(day: Day) -> None:
    assert day.seen_after_the_end.arbitrary_ids() == []
    for reservation, story in day.workload.stories.items():
        if story.name == "runs, said three times":
            assert len({body["id"] for body in day.seen.results[reservation]}) == 1


def test_people_are_told_once_however_often_the_platform_repeats_itself(day: Day) -> None:
    for reservation, story in day.workload.stories.items():
        if story.name == "runs, said three times":
            assert [note["type"] for note in day.seen.notifications[reservation]] == ["SUCCESS"]


def test_no_reservation_ever_had_two_environments(day: Day) -> None:
    assert {reservation: most for reservation, most in day.lives.most_at_once().items() if most > 1} == {}
    moved = [each for each, story in day.workload.stories.items() if story.name == "moves to another resource"]
    assert {day.lives.created(reservation) for reservation in moved} == {2}


def test_a_deleted_resource_takes_its_environments_along(day: Day) -> None:
    doomed = day.workload.on_doomed
    assert doomed
    for reservation in doomed:
        assert day.seen_after_the_end.told(reservation)[-1] == ("EVENT_END", "released", None)


def test_after_all_have_ended_nothing_is_left(day: Day) -> None:
    assert day.left == []
    assert day.seen_after_the_end.unanswered(exactly=True) == []
    assert day.seen_after_the_end.out_of_order() == []


def test_everything_is_committed_and_sigterm_ends_it_in_good_order(day: Day) -> None:
    assert day.exit_code == 0
    assert day.seen_after_the_end.uncommitted() == {}
    errors = [json.loads(line) for line in day.log.splitlines() if '"level": "error"' in line]
    assert [each for each in errors if each.get("alarm") != "loop_blocked"] == []  # which a machine that stalls raises
    assert "Traceback" not in day.log
