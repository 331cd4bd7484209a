"""What a consumer says of itself: alarms that are raised in time, and cleared when it goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import RequestTimedOutError
from structlog.testing import capture_logs

from consumer.dispatch import BreakerPolicy, DeadLetterBudget, Done, Limits, Outage, Retry, Verdict, Work
from consumer.transport import AlarmLimits, KeyedConsumer, Liveness, Options, Outgoing, Record
from consumer.transport.memory import Faults, MemoryBroker, Operation

Handler = Callable[[Work[Record]], Awaitable[Verdict[Outgoing]]]


@dataclass
class Scene:
    broker: MemoryBroker
    consumer: KeyedConsumer[Record]

    @property
    def liveness(self) -> Liveness:
        seen = self.consumer.liveness()
        assert seen is not None
        return seen

    def publish(self, *values: str) -> None:
        for value in values:
            self.broker.append("orders", value.encode(), key=value.encode())

    def committed(self) -> int:
        committed = self.broker.group("billing").committed.get(TopicPartition("orders", 0))
        return committed.offset if committed is not None else 0


@asynccontextmanager
async def scene(handler: Handler, **options: object) -> AsyncIterator[Scene]:
    broker = MemoryBroker()
    broker.create_topic("orders")
    broker.create_topic("invoices")
    settings = Options(group="billing", **options)  # type: ignore[arg-type]
    consumer = KeyedConsumer(
        broker.connection(), ["orders"], handler, settings, group_of=lambda work: (work.item.value or b"").decode()
    )
    running = asyncio.create_task(consumer.run())
    await asyncio.sleep(10)
    yield Scene(broker, consumer)
    consumer.stop()
    await running


async def invoice(work: Work[Record]) -> Verdict[Outgoing]:
    return Done((Outgoing("invoices", b"", work.item.key),))


async def letter(work: Work[Record]) -> Verdict[Outgoing]:
    return Done((Outgoing("invoices", b"", work.item.key),), dead_letters=1)


async def test_before_it_runs_there_is_nothing_to_tell() -> None:
    assert KeyedConsumer(MemoryBroker().connection(), ["orders"], invoice, Options()).liveness() is None


async def test_a_consumer_that_works_is_alive_and_ready_and_raises_no_alarm() -> None:
    async with scene(invoice) as stage:
        stage.publish(*"abc")
        await asyncio.sleep(600)
        seen = stage.liveness
        assert (seen.alive, seen.ready, seen.alarms, seen.partitions, seen.completed) == (True, True, {}, 1, 3)
        assert max(seen.poll_age, seen.loop_lag, seen.commit_age, seen.record_age) < 2
        assert stage.committed() == 3


async def test_while_publishing_is_denied_nothing_is_committed_or_ready_and_then_it_goes_on_by_itself() -> None:
    async with scene(invoice) as stage:
        stage.broker.topics["invoices"].writable = False
        stage.publish("a")
        await asyncio.sleep(30)
        assert (stage.liveness.alive, stage.liveness.ready) == (True, False)
        assert "TopicAuthorizationFailed" in (stage.liveness.publishing_failure or "")
        assert stage.committed() == 0
        stage.publish("b")
        await asyncio.sleep(30)
        assert (stage.liveness.unacknowledged, stage.liveness.outstanding) == (1, 1)
        stage.broker.topics["invoices"].writable = True
        await asyncio.sleep(30)
        assert (stage.liveness.ready, stage.committed()) == (True, 2)


async def test_a_flood_of_dead_letters_pauses_intake_and_raises_an_alarm_until_the_budget_allows_more() -> None:
    budget = DeadLetterBudget(burst=5, per_second=0.1)
    async with scene(letter, dead_letters=budget, limits=Limits(max_records=8)) as stage:
        stage.publish(*map(str, range(20)))
        await asyncio.sleep(5)
        assert "dead_letters_held" in stage.liveness.alarms
        assert (stage.liveness.ready, stage.liveness.completed) == (False, 5)
        await asyncio.sleep(300)
        assert (stage.liveness.alarms, stage.committed()) == ({}, 20)


async def test_when_nothing_is_taken_in_and_nothing_ends_that_is_an_alarm() -> None:
    async def never(work: Work[Record]) -> Verdict[Outgoing]:
        return Retry(10.0)

    with capture_logs() as logs:
        async with scene(never, limits=Limits(max_records=3), alarms=AlarmLimits(stalled_for=60)) as stage:
            stage.publish(*"abcdef")
            await asyncio.sleep(50)
            assert stage.liveness.alarms == {}
            await asyncio.sleep(30)
            assert list(stage.liveness.alarms) == ["intake_stalled"]
            assert (stage.liveness.alive, stage.liveness.ready, stage.liveness.parked) == (True, False, 3)
    assert [entry["alarm"] for entry in logs if entry["event"] == "alarm_raised"] == ["intake_stalled"]


async def test_parked_retries_have_a_bound_of_their_own() -> None:
    async def later(work: Work[Record]) -> Verdict[Outgoing]:
        return Retry(100.0) if work.attempt == 1 else Done()

    async with scene(later, limits=Limits(max_parked=4)) as stage:
        stage.publish(*map(str, range(4)))
        await asyncio.sleep(10)
        stage.publish(*map(str, range(4, 10)))
        await asyncio.sleep(10)
        assert stage.liveness.parked == 4
        await asyncio.sleep(500)
        assert stage.committed() == 10


async def test_a_backend_that_does_not_answer_is_an_alarm_but_its_consumer_stays_ready_for_others() -> None:
    answers = False

    async def handle(work: Work[Record]) -> Verdict[Outgoing]:
        return Done() if answers or work.key == b"fine" else Outage()

    async with scene(handle, breakers=BreakerPolicy(threshold=1)) as stage:
        stage.publish("down", "fine", "fine")
        await asyncio.sleep(120)
        assert stage.liveness.outages == ("down",)
        assert (list(stage.liveness.alarms), stage.liveness.ready, stage.liveness.completed) == (["outage"], True, 2)
        answers = True
        await asyncio.sleep(120)
        assert (stage.liveness.alarms, stage.committed()) == ({}, 3)


class NoCommits(Faults):
    """Commits never arrive while `on`."""

    on = False

    async def at(self, client: str, operation: Operation, *, applied: bool) -> None:
        if self.on and operation == "commit":
            raise RequestTimedOutError


async def test_commits_that_are_not_confirmed_are_an_alarm() -> None:
    async with scene(invoice, alarms=AlarmLimits(commit_age=30)) as stage:
        stage.broker.faults = faults = NoCommits()
        faults.on = True
        stage.publish("a")
        await asyncio.sleep(60)
        assert (list(stage.liveness.alarms), stage.liveness.ready) == (["commits_stalled"], False)
        faults.on = False
        await asyncio.sleep(60)
        assert (stage.liveness.alarms, stage.committed()) == ({}, 1)


@pytest.mark.parametrize(("seconds", "alive"), [(0.0, True), (40.0, False)])
async def test_a_poll_that_stands_still_means_that_only_a_restart_helps(
    seconds: float, alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(invoice) as stage:
        intake = stage.consumer._intake
        with monkeypatch.context() as patched:
            patched.setattr(intake, "polled_at", asyncio.get_running_loop().time() - seconds)
            assert stage.liveness.alive is alive
