"""What happens at its time although nobody sends an event: the owner of a reservation keeps its timers."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.quotas import QuotaRules
from consumer.dispatch import Assignment, Limits
from consumer.handling.agenda import Agenda
from consumer.handling.errors import Permanent
from consumer.handling.quotas import Ledger
from consumer.handling.timers import Timers
from consumer.reservations import Policy
from schemas.events import ReservationEvent
from schemas.state import Phase
from tests.handling.topic import States
from tests.handling.world import (
    GRACE,
    HOUR,
    LEAD,
    MINUTE,
    POD,
    SECOND,
    World,
    created,
    end,
    start,
    updated,
)
from tests.reservations.bookings import END, NINE, OTHER_SERVER, START

EXPIRED = ("expired", "expired")
LATER = END + 4 * HOUR


def at(world: World, outcome: str, reservation: str = "1841") -> list[datetime]:
    return [said.at for said in world.said if said.outcome == outcome and said.reservation == reservation]


async def fires_within_seconds_of(world: World, moment: datetime, outcome: str) -> None:
    """Neither a second early, nor more than three late."""
    before = len(world.said)
    await world.sleep_until(moment - SECOND)
    assert len(world.said) == before
    await world.sleep_until(moment + 3 * SECOND)
    assert [said.outcome for said in world.said[before:]] == [outcome]


async def test_what_nobody_ends_is_released_when_the_grace_is_over() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
        await fires_within_seconds_of(world, END + GRACE, "expired")
        assert world.outcomes() == [("provisioned", None), EXPIRED]
        assert world.notes[-1].message.startswith("Your reservation of GPU Server 1 ran out at 10:00 UTC, and")
        assert world.environments == set()
        await world.sleep_until(LATER)
        assert len(world.said) == 2


async def test_an_extension_after_that_makes_it_run_again() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep_until(END + GRACE + 5 * SECOND)
        state = world.state()
        assert state is not None
        assert state.phase is Phase.PENDING
        world.send(updated(1, end=END + HOUR))
        await world.sleep(SECOND)
        assert world.exists()
        await fires_within_seconds_of(world, END + HOUR + GRACE, "expired")
    assert world.violations == []


@pytest.mark.parametrize("until", [END + HOUR, END - 30 * MINUTE])
async def test_another_end_is_another_time(until: datetime) -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
        world.send(updated(1, end=until))
        await world.sleep(SECOND)
        await fires_within_seconds_of(world, until + GRACE, "expired")


async def test_a_move_takes_its_end_along() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
        world.send(updated(1, resource=POD, end=END + HOUR))
        await world.sleep(SECOND)
        assert world.podman.names()
        await fires_within_seconds_of(world, END + HOUR + GRACE, "expired")
        assert world.environments == set()


async def test_an_end_in_time_leaves_nothing_to_expire() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep_until(END)
        world.send(end())
        await world.sleep_until(LATER)
    assert world.outcomes() == [("provisioned", None), ("released", None)]


async def test_an_end_within_the_grace_that_takes_long_is_not_an_expiry() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
        world.docker.latency = 15.0
        await world.sleep_until(END + GRACE - 10 * SECOND)
        world.send(end())
        await world.sleep_until(LATER)
    assert world.outcomes() == [("provisioned", None), ("released", None)]


async def test_an_end_after_the_expiry_finds_nothing_and_tells_nobody() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep_until(END + HOUR)
        told = len(world.notes)
        world.send(end())
        await world.sleep(SECOND)
    assert world.outcomes()[1:] == [EXPIRED, ("skipped", "nothing_to_release")]
    assert len(world.notes) == told


POSTPONED = updated(1, start=NINE + 2 * HOUR, end=NINE + 3 * HOUR)


async def test_what_was_postponed_starts_at_its_new_time_without_a_start() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
        world.send(POSTPONED)
        await world.sleep(SECOND)
        assert world.outcomes()[1:] == [("released", "postponed")]
        await fires_within_seconds_of(world, POSTPONED.start - LEAD, "provisioned")
        await fires_within_seconds_of(world, POSTPONED.end + GRACE, "expired")


async def test_what_never_saw_a_start_waits_for_one() -> None:
    world = World()
    async with world.served():
        world.send(created(start=NINE + HOUR, end=NINE + 2 * HOUR))
        await world.sleep_until(LATER)
    assert world.outcomes() == [("skipped", "remembered")]


async def test_a_scheduler_of_its_own_starts_what_it_knows_of() -> None:
    world = World(policy=Policy(self_schedule=True))
    async with world.served():
        world.send(created(start=NINE + HOUR, end=NINE + 2 * HOUR))
        await world.sleep(SECOND)
        await fires_within_seconds_of(world, NINE + HOUR - LEAD, "provisioned")
        world.send(start(start=NINE + HOUR, end=NINE + 2 * HOUR))
        await world.sleep(SECOND)
        assert len({said.id for said in world.said if said.outcome == "provisioned"}) == 1
        assert world.violations == []


async def test_a_scheduler_of_its_own_starts_at_once_what_it_hears_of_late() -> None:
    world = World(policy=Policy(self_schedule=True))
    async with world.served():
        world.send(created())
        await world.sleep(3 * SECOND)
        assert world.exists()


@pytest.mark.parametrize("ending", [end(), updated(2, start=NINE + 5 * HOUR, end=NINE + 6 * HOUR)])
async def test_what_was_called_off_before_its_time_does_not_start(ending: ReservationEvent) -> None:
    world = World(policy=Policy(self_schedule=True))
    async with world.served():
        world.send(created(start=NINE + HOUR, end=NINE + 2 * HOUR))
        await world.sleep(SECOND)
        world.send(ending)
        await world.sleep_until(NINE + 4 * HOUR)
    assert not world.exists()
    assert at(world, "provisioned") == []


@pytest.mark.parametrize("down_until", [NINE + 20 * MINUTE, END + GRACE + HOUR])
async def test_timers_survive_a_restart(down_until: datetime) -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
    await world.sleep_until(down_until)
    async with world.served():
        if down_until < END:
            await world.sleep_until(END + GRACE - SECOND)
            assert world.exists()
        await world.sleep_until(max(END + GRACE, down_until) + MINUTE)
        assert world.outcomes()[-1] == EXPIRED
        assert not world.exists()


async def test_what_was_said_while_nobody_served_counts_before_the_timers() -> None:
    """An extension that lies in the topic must not find its environment gone."""
    world = World(poll_after=5.0)
    async with world.served():
        world.send(start())
        await world.sleep(MINUTE)  # its offset is committed
    world.send(updated(1, end=END + 3 * HOUR))
    await world.sleep_until(END + HOUR)
    async with world.served():
        await world.sleep(10 * MINUTE)
    assert world.outcomes() == [("provisioned", None), ("updated", None)]


async def test_a_partition_that_was_lost_fires_no_timers_here() -> None:
    world = World()
    async with world.served() as service:
        world.send(start())
        await world.sleep(SECOND)
        await service.lose(0, 1)
        await world.sleep_until(END + HOUR)
        assert world.exists()
        assert world.outcomes() == [("provisioned", None)]
        await service.gain(world.partition_of("1841"))
        await world.sleep(MINUTE)
        assert world.outcomes()[1:] == [EXPIRED]


async def test_the_partitions_that_stay_keep_their_timers() -> None:
    world = World()
    names = [str(number) for number in range(20)]
    async with world.served() as service:
        for name in names:
            world.send(start(name))
        await world.sleep(SECOND)
        await service.lose(0)
        await world.sleep_until(END + HOUR)
    for name in names:
        assert world.exists(name) == (world.partition_of(name) == 0)


async def test_two_topics_share_the_timers_of_a_partition() -> None:
    world = World(partitions=1)
    agenda = Agenda(States(world.states), Policy(), Ledger(QuotaRules()), world.now)
    one, other = Assignment("one", 0), Assignment("other", 0)
    await agenda.restore([one])
    await agenda.restore([other])
    assert agenda.owned == {0: one}
    agenda.forget([one])
    assert agenda.owned == {0: other}
    agenda.forget([other])
    assert agenda.owned == {}


async def test_what_there_is_no_room_for_stays_due() -> None:
    world = World(limits=Limits(max_records=1, max_records_per_partition=1, concurrency=1))
    async with world.served() as service:
        world.send(start())
        await world.sleep(SECOND)
        world.docker.latency = 400.0
        world.send(start("other", end=LATER, resource=POD))  # fails soon: what holds the only room is below
        await service.settled()
        world.docker.latency = 0.0
        gate = world.docker.reachable = False
        world.send(start("third", end=LATER, resource=OTHER_SERVER))
        await world.sleep_until(END + HOUR)
        assert gate is False
        assert at(world, "expired") == []
        world.docker.reachable = True
        await world.sleep(3 * MINUTE)
        assert world.outcomes()[1:] == [EXPIRED]


async def test_a_runtime_that_does_not_answer_is_asked_once_at_a_time() -> None:
    """Hours of outage must not fill the memory with questions, or there is no room for what other runtimes do."""
    world = World()
    async with world.served() as service:
        world.send(start())
        await world.sleep(SECOND)
        world.docker.reachable = False
        await world.sleep_until(END + 10 * HOUR)
        assert service.dispatcher.outstanding <= 2
        world.docker.reachable = True
        await world.sleep(3 * MINUTE)
        assert world.outcomes()[1:] == [EXPIRED]
        assert not world.exists()


async def test_what_cannot_be_released_is_one_dead_letter_and_not_one_a_minute() -> None:
    world = World()
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
        for number in range(1, 1000):
            world.docker.fail("remove", Permanent("forbidden", "No."), nth=number)
        await world.sleep_until(END + 10 * HOUR)
        assert len(world.letters) == 1
        assert at(world, "expired") == []


async def test_hundreds_end_at_once_and_all_are_released() -> None:
    world = World(limits=Limits(max_records=50, max_records_per_partition=30, concurrency=10))
    names = [str(number) for number in range(300)]
    async with world.served() as service:
        for name in names:
            world.send(start(name))
        await service.settled()
        await world.sleep_until(END + GRACE - SECOND)
        assert len(world.docker.names()) == 300
        await world.sleep(5 * MINUTE)
        assert world.environments == set()
    assert len(at(world, "expired", "17")) == 1
    assert len(world.said) == 600


async def test_what_failed_and_is_postponed_starts_at_its_new_time() -> None:
    world = World()
    async with world.served():
        world.docker.fail("ensure", Permanent("forbidden", "No."))
        world.send(start(end=LATER))
        await world.sleep(SECOND)
        world.send(updated(1, start=NINE + HOUR, end=LATER))
        await world.sleep(SECOND)
        await fires_within_seconds_of(world, NINE + HOUR - LEAD, "provisioned")
    assert [outcome for outcome, _ in world.outcomes()] == ["failed", "updated", "provisioned"]


async def test_what_failed_and_turns_out_to_be_ahead_starts_at_its_time() -> None:
    world = World()
    async with world.served():
        world.docker.fail("ensure", Permanent("forbidden", "No."))
        world.send(start(start=NINE + HOUR, end=LATER))
        await world.sleep(SECOND)
        world.send(created(start=NINE + HOUR, end=LATER))
        world.send(start(start=NINE + HOUR, end=LATER))
        await world.sleep(SECOND)
        await fires_within_seconds_of(world, NINE + HOUR - LEAD, "provisioned")


# The heap

moments = st.none() | st.integers(0, 20).map(float)


@given(st.lists(st.tuples(st.sampled_from("abc"), moments) | st.integers(0, 20).map(float)))
def test_due_is_what_the_latest_arming_says(steps: list[tuple[str, float | None] | float]) -> None:
    timers = Timers()
    model: dict[str, float] = {}
    for step in steps:
        if isinstance(step, tuple):
            name, when = step
            timers.arm(name, when)
            model.pop(name, None)
            if when is not None:
                model[name] = when
        else:
            due = timers.due(step)
            wanted = [name for name, when in model.items() if when <= step]
            assert (due in wanted) if wanted else (due is None)
            assert due is None or model[due] == min(model.values())
    assert len(timers) == len(model)
    left = []
    while (name := timers.due(100.0)) is not None:
        left.append(model[name])
        timers.arm(name, None)
    assert left == sorted(model.values())


@pytest.mark.parametrize("cycle", [(10.0, 5.0), (10.0, None)])
def test_arming_again_and_again_takes_no_more_memory(cycle: tuple[float | None, ...]) -> None:
    timers = Timers()
    for _ in range(10_000):
        for when in cycle:
            timers.arm("a", when)
    assert len(timers._heap) < 100


Clock = Callable[[], datetime]


@pytest.mark.parametrize("began", [START, NINE])
async def test_what_is_due_is_looked_at_again_after_a_while_and_not_each_second(began: datetime) -> None:
    world = World(partitions=1)
    ledger = Ledger(QuotaRules())
    agenda = Agenda(States(world.states), Policy(), ledger, lambda: END + GRACE + timedelta(seconds=len(asked)))
    asked: list[str] = []
    assignment = Assignment("one", 0)
    await agenda.restore([assignment])
    state = (await _running(world)).model_copy(update={"start": began})
    agenda.put(assignment, state)
    for _ in range(10):
        agenda.ring(lambda _, name: asked.append(name) is None)
    assert asked == ["1841"]


async def test_those_that_are_due_together_ring_a_few_at_a_time() -> None:
    """However many there are, the event loop gets its turns in between."""
    world = World(partitions=1)
    agenda = Agenda(States(world.states), Policy(), Ledger(QuotaRules()), lambda: END + GRACE)
    assignment = Assignment("one", 0)
    await agenda.restore([assignment])
    state = await _running(world)
    names = {str(number) for number in range(1000)}
    for name in names:
        agenda.put(assignment, state.model_copy(update={"reservation_id": name}))
    asked: list[str] = []
    turns = 1
    while agenda.ring(lambda _, name: asked.append(name) is None):
        assert len(asked) <= 250 * turns
        turns += 1
    assert names <= set(asked)
    assert len(asked) == len(set(asked))


async def test_what_is_not_taken_is_not_offered_again_at_once() -> None:
    world = World(partitions=1)
    agenda = Agenda(States(world.states), Policy(), Ledger(QuotaRules()), lambda: END + GRACE)
    assignment = Assignment("one", 0)
    await agenda.restore([assignment])
    state = await _running(world)
    agenda.put(assignment, state)
    asked: list[str] = []
    for _ in range(3):
        assert not agenda.ring(lambda _, name: bool(asked.append(name)))
    assert asked == ["1841"] * 3


async def _running(world: World):  # type: ignore[no-untyped-def]
    async with world.served():
        world.send(start())
        await world.sleep(SECOND)
    return world.state()
