"""Members of a group are stopped, killed and started at random under load, and the books are right in the end.

Three processes on a real Kafka, with the in-memory runtime. What is proved is read from topics and committed offsets
alone. MOORAGE_CHAOS_SEED says who is toggled when, MOORAGE_CHAOS_SECONDS for how long.
"""

import os
from dataclasses import dataclass

import pytest

from tests.services import KafkaBroker
from tests.support.double import Stage
from tests.support.installation import installation
from tests.support.ledger import Ledger, Sample, sampled
from tests.support.members import Toggled, members
from tests.support.traffic import traffic

SECONDS = float(os.environ.get("MOORAGE_CHAOS_SECONDS", "120"))
SEED = int(os.environ.get("MOORAGE_CHAOS_SEED", "11"))

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(SECONDS + 240)]


@dataclass(frozen=True)
class Plan:
    """For how long members come and go, and how many of those that go are killed."""

    name: str
    seconds: float
    kills: float
    settings: tuple[tuple[str, str], ...] = ()


# Each process has a runtime of its own here, so what another one made would be told as lost: an outcome of no record.
EVENTS_ALONE = (("MOORAGE_RECONCILE_DELAY", "3600"),)
# The group misses killed members soon, so that their partitions do not just wait for their return.
ROUGH = Plan("some are killed", SECONDS, kills=0.3, settings=(("MOORAGE_DOUBLE_SESSION", "12"), *EVENTS_ALONE))
POLITE = Plan("all are asked to stop", SECONDS / 6, kills=0.0, settings=EVENTS_ALONE)


@dataclass(frozen=True)
class Day:
    """A day on which members came and went."""

    plan: Plan
    toggled: Toggled
    books: Ledger
    samples: list[Sample]
    lag: dict[int, int]


@pytest.fixture(scope="module", params=[ROUGH, POLITE], ids=lambda plan: plan.name)
def day(request: pytest.FixtureRequest, kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Day:
    plan: Plan = request.param
    folder = tmp_path_factory.mktemp("toggled")
    slow = {"MOORAGE_DOUBLE_SECONDS": "0.01", "MOORAGE_DOUBLE_SLOW": "2"}
    with (
        installation(kafka.bootstrap_servers, folder, **Stage(folder / "stage").settings, **slow) as ours,
        members(ours, seed=SEED, kills=plan.kills, **dict(plan.settings)) as group,
        sampled(ours.kafka, ours.names) as samples,
    ):
        with traffic(ours, seed=SEED, per_second=150):
            group.toggle_for(plan.seconds)
        group.start_all()
        ours.settle(seconds=120)
        group.stop_all()
        lag = ours.kafka.lag(ours.names.group, ours.names.inbound)
        return Day(plan, group.toggled, Ledger(ours.kafka, ours.names), samples, lag)


def test_members_were_toggled_under_load(day: Day) -> None:
    assert day.toggled.starts > 3  # all are running at first
    assert day.toggled.stops > 0
    assert bool(day.toggled.kills_ms) == bool(day.plan.kills)
    assert len(day.samples) > 10
    assert len(day.books) > 100


def test_who_was_asked_to_stop_left_in_good_order(day: Day) -> None:
    assert set(day.toggled.exit_codes) == {0}


def test_nothing_is_lost(day: Day) -> None:
    assert day.lag == {}
    assert day.books.lost() == []


def test_the_order_of_each_reservation_is_kept(day: Day) -> None:
    assert day.books.out_of_order() == []


def test_nothing_is_committed_before_its_outcome_is_there(day: Day) -> None:
    assert day.books.committed_too_early(day.samples) == []


def test_nothing_is_repeated_without_a_kill(day: Day) -> None:
    assert day.books.repeated_without(day.toggled.kills_ms) == []


def test_few_records_are_repeated(day: Day) -> None:
    assert day.books.repetitions < 0.05 * len(day.books)
