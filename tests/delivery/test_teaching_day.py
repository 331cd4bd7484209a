"""A teaching day: a morning of 300 reservations in ninety seconds, with everything that goes wrong on such a day.

Real Kafka, real Docker, two members of one group. Starts and ends are lost, bookings are extended, shortened, moved,
postponed and deleted, a quarter of all events is said twice, and members are killed three times, at last both at once.
What is proved is read from the outbound topic and from Docker. The plan is seeded and made in advance. The day lasts as
long as the machine needs, and nothing depends on that: what comes too late has a legal outcome of its own.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.services import DockerEngine, KafkaBroker
from tests.support.containers import Container, Lives
from tests.support.crew import Crew
from tests.support.installation import docker_installation
from tests.support.legal import Standing, Told, follow
from tests.support.teaching_day import COURSES, DUSK, MOST_AT_ONCE, Platform, Reservation, most_at_once, plan
from tests.support.verifier import Verifier
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.docker, pytest.mark.timeout(480)]

SEED = 5
RESERVATIONS = 300
SETTLING = 150.0

_TURNED_OVER, _IN_TIME = 10, 3.0
_SLOWEST = 3.0
"""The day is in time where the engine creates and removes ten containers within three seconds, and slower elsewhere."""

SETTINGS = {
    "MOORAGE_END_GRACE": "3",
    "MOORAGE_START_LEAD": "1",
    "MOORAGE_SELF_SCHEDULE": "true",
    "MOORAGE_RECONCILE_INTERVAL": "2",
    "MOORAGE_RECONCILE_DELAY": "6",
    "MOORAGE_RUNTIME_CONCURRENCY": "docker=8",
    "MOORAGE_SESSION": "10",
}
KILLS = ((20.0, ("one",)), (42.0, ("two",)), (66.0, ("one", "two")))
"""When who is killed. Each is launched again at once."""


@dataclass(frozen=True)
class Day:
    """How the day went."""

    plan: list[Reservation]
    crew: Crew
    behind: list[int]
    """How many records were not done when somebody was killed."""

    seen: Verifier
    lag: dict[int, int]
    lives: Lives
    samples: list[list[Container]]
    left: list[Container]

    def told(self, each: Reservation) -> list[Told]:
        return self.seen.as_told(each.id)

    def standing(self, each: Reservation) -> frozenset[Standing]:
        """How things may stand with it in the end; nothing if what was told is against the law."""
        return follow(self.told(each), self.crew.kills_ms)

    def story(self, each: Reservation) -> str:
        """What a reader of a failed test wants to know."""
        moments = [(told.at_ms, told.what) for told in self.told(each)]
        moments += [(kill, "KILL") for kill in self.crew.kills_ms]
        moments += [(at_ms, f"[{action}]") for at_ms, action in self.lives.story(each.id)]
        began = self.crew.began_ms
        lines = ", ".join(f"{(at_ms - began) / 1000:.1f} {what}" for at_ms, what in sorted(moments))
        return f"{each.id} ({each.course}): {lines}"


@pytest.fixture(scope="module")
def day(kafka: KafkaBroker, docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    folder = tmp_path_factory.mktemp("day")
    planned = plan(SEED, reservations=RESERVATIONS)
    with ExitStack() as stack:
        ours, containers = stack.enter_context(
            docker_installation(kafka.bootstrap_servers, docker_engine, folder, **SETTINGS)
        )
        pace = min(max(containers.turnover(docker_engine.image, _TURNED_OVER) / _IN_TIME, 1.0), _SLOWEST)
        lives = stack.enter_context(containers.watched())
        # One is known again as soon as it is back, the other is missed, and its partitions move.
        crew = stack.enter_context(Crew(ours, {"one": {"MOORAGE_GROUP_INSTANCE": "one"}, "two": {}}))
        behind = []
        with containers.sampled() as samples:
            platform = Platform(ours, planned, pace=pace)
            for moment, names in KILLS:
                platform.until(moment)
                behind.append(platform.until_busy())
                crew.kill(*names)
                crew.launch(*names)
            platform.until(DUSK)
            assert platform.left == 0

            def all_quiet() -> bool:
                return platform.behind == 0 and containers.all() == []

            eventually(all_quiet, what="all is done, and no container is left", seconds=SETTLING, every=1.0)
        crew.stop()
        lag = ours.kafka.lag(ours.names.group, ours.names.inbound)
        yield Day(planned, crew, behind, ours.look().read(), lag, lives, samples, containers.all())


def test_the_day_is_planned_as_it_should_be() -> None:
    planned = plan(SEED, reservations=RESERVATIONS)
    assert planned == plan(SEED, reservations=RESERVATIONS)
    assert len({each.id for each in planned}) == RESERVATIONS
    assert len({each.course for each in planned}) == len(set(COURSES))
    assert 10 < most_at_once(planned) <= MOST_AT_ONCE


def test_it_was_a_busy_day_with_accidents(day: Day) -> None:
    assert len(day.crew.kills_ms) == len(KILLS)
    assert min(day.behind) > 0
    assert {each.id for each in day.plan} == set(day.seen.results)
    happened = Counter(told.what for each in day.plan for told in day.told(each))
    few = {"provisioned": 40, "released": 10, "expired:expired": 10, "updated": 10, "skipped:already_ended": 10}
    assert {what: count for what, count in few.items() if happened[what] < count} == {}, happened
    changed = sum(happened[f"released:{how}"] for how in ("moved", "postponed", "ended_by_update"))
    assert changed > 2
    assert max(map(len, day.samples)) > 5


def test_no_container_is_left(day: Day) -> None:
    assert day.left == []


def test_no_reservation_ever_had_two_containers(day: Day) -> None:
    seen = (Counter(container.reservation for container in sample).most_common(1) for sample in day.samples)
    assert [most for most in seen if most and most[0][1] > 1] == []
    assert {reservation: most for reservation, most in day.lives.most_at_once().items() if most > 1} == {}


def test_everything_is_done_and_nothing_unexpected_was_put_aside(day: Day) -> None:
    assert day.lag == {}
    assert day.seen.unanswered() == []
    assert day.seen.arbitrary_ids() == []
    codes = Counter(letter.header("moorage-dlt-error-code") for letter in day.seen.dead_letters)
    # What a slow machine could not start before it was over again.
    assert set(codes) <= {"start_timeout"}


def test_what_is_told_of_each_reservation_is_in_a_legal_order(day: Day) -> None:
    assert [day.story(each) for each in day.plan if not day.standing(each)] == []


def test_nobody_is_left_with_what_runs_no_more(day: Day) -> None:
    over = {Standing.IDLE, Standing.ENDED}
    assert [day.story(each) for each in day.plan if not day.standing(each) & over] == []


def test_what_the_platform_ended_is_ended_and_nothing_else(day: Day) -> None:
    wrong = [each for each in day.plan if (Standing.ENDED in day.standing(each)) != (each.ended_at is not None)]
    assert [day.story(each) for each in wrong] == []
