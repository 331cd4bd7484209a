"""The composition root: builds the parts from settings, starts them in order and stops them in reverse."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

import structlog

from consumer.catalog.templates import Catalog
from consumer.dispatch import (
    Assignment,
    Continue,
    DeadLetterBudget,
    Done,
    Limits,
    RetryPolicy,
    Unfinished,
    Verdict,
    Work,
)
from consumer.handling.agenda import Agenda
from consumer.handling.clock import SteadyClock
from consumer.handling.errors import ProvisionerError
from consumer.handling.guard import Guard
from consumer.handling.handler import Handler
from consumer.handling.handler import Options as HandlingOptions
from consumer.handling.lifecycle import Lifecycle
from consumer.handling.messages import Messenger
from consumer.handling.metering import Metering
from consumer.handling.ports import Provisioner
from consumer.handling.preparation import Preparation
from consumer.handling.quotas import Ledger
from consumer.handling.reconciliation import Reconciliation
from consumer.handling.records import Item, Review, unwritten
from consumer.handling.retention import Expired, Retention, RetentionOptions
from consumer.handling.routing import route
from consumer.parts import ConfigurationError, catalog_of, connection_of, provisioners_of, topics_of
from consumer.reservations import Policy
from consumer.settings import Settings
from consumer.transport.connection import Topics
from consumer.transport.keyed import KeyedConsumer
from consumer.transport.liveness import Liveness
from consumer.transport.options import AlarmLimits, Options
from consumer.transport.outgoing import Outgoing
from consumer.transport.placing import default_partition
from consumer.transport.states import StateTopic
from consumer.transport.topics import ensure_topics

log = structlog.get_logger("moorage.app")


class Moorage:
    """The service: consumes reservation events until told to stop."""

    def __init__(
        self,
        settings: Settings,
        *,
        catalog: Catalog | None = None,
        provisioners: Mapping[str, Provisioner] | None = None,
    ) -> None:
        self._settings = settings
        self.catalog = catalog if catalog is not None else catalog_of(settings)
        self.provisioners = (
            provisioners if provisioners is not None else provisioners_of(settings, self.catalog.runtimes, self.catalog)
        )
        self._stopping = False
        self._consumer: KeyedConsumer[Item] | None = None

    def stop(self) -> None:
        """Finish what is running and return from `run`. May be called from a signal handler."""
        self._stopping = True
        if self._consumer is not None:
            self._consumer.stop()

    def unfinished(self) -> list[Unfinished]:
        """What is admitted and not done, oldest first."""
        return self._consumer.unfinished() if self._consumer is not None else []

    def liveness(self) -> Liveness | None:
        """How the service is doing; None before it began to consume."""
        return self._consumer.liveness() if self._consumer is not None else None

    async def run(self) -> bool:
        """Serve until `stop`. True when everything taken in was finished.

        Raises `TransportError` when Kafka is not as it has to be at start; later troubles are waited out.
        """
        settings = self._settings
        connection, topics = connection_of(settings), topics_of(settings)
        count = await ensure_topics(connection, topics, create=settings.create_topics, partitions=settings.partitions)
        await self._look_at_runtimes()
        clock, policy = SteadyClock(), _policy(settings)
        states = StateTopic(connection, topics.state)
        ledger = Ledger(self.catalog.quotas, is_shut=self._is_shut)
        agenda = Agenda(states, policy, ledger, clock.now)
        retention = Retention(states, RetentionOptions(settings.tombstone_retention, topics.inbound), now=clock.now)
        lifecycle = Lifecycle(
            self.catalog,
            self.provisioners,
            instance=settings.instance,
            start_timeout=settings.start_timeout,
            release_timeout=settings.release_timeout,
            exclusive_wait=settings.exclusive_wait,
            ledger=ledger,
            is_shut=self._is_shut,
            now=clock.now,
        )
        messenger = Messenger(self.catalog.messages_for, settings.time_zone)
        preparation = Preparation(self.catalog, self.provisioners, now=clock.now)
        handler = Handler(
            lifecycle,
            agenda,
            _handling_options(settings, policy),
            messenger=messenger,
            now=clock.now,
            expect=preparation.expect,
            tell=lambda publication: _tell(self._consumer, topics.outgoing(publication)),
        )
        guard = Guard(handler, agenda, retention, instance=settings.instance, now=clock.now)
        consumer = self._consumer = KeyedConsumer(
            connection,
            topics.inbound,
            partial(_handle, guard, topics),
            _consumer_options(settings, self.provisioners),
            route=partial(route, max_bytes=settings.max_record_bytes),
            memory=agenda,
            group_of=guard.group_of,
            interrupts=handler.interrupts,
        )
        reconciliation = Reconciliation(
            agenda,
            lifecycle,
            ledger,
            partition_of=lambda reservation_id: default_partition(reservation_id.encode(), count),
            now=clock.now,
            interval=settings.reconcile_interval,
            delay=settings.reconcile_delay,
            grace=policy.grace,
        )
        if self._stopping:
            consumer.stop()
        async with AsyncExitStack() as stack:
            for provisioner in self.provisioners.values():
                stack.push_async_callback(provisioner.close)
            await reconciliation.look_ahead()
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            background = [
                tasks.create_task(agenda.run(partial(_review, consumer, False)), name="timers"),
                tasks.create_task(reconciliation.run(partial(_review, consumer, True)), name="reconciliation"),
                tasks.create_task(retention.run(partial(_forget, consumer)), name="retention"),
                tasks.create_task(preparation.run(), name="preparation"),
                *(
                    tasks.create_task(
                        reconciliation.watch(each, partial(_review, consumer, True)), name=f"watch-{name}"
                    )
                    for name, each in self.provisioners.items()
                ),
            ]
            if settings.http_port is not None:
                metering = Metering(agenda, self.provisioners.values(), settings.usage_interval)
                background.append(tasks.create_task(metering.run(), name="metering"))
                await stack.enter_async_context(_endpoints(settings, settings.http_port, self, metering))
            finished = await consumer.run()
            for task in background:
                task.cancel()
            return finished

    async def _look_at_runtimes(self) -> None:
        """Tell which runtimes answer. One that does not is no reason not to start: its work waits for it."""
        async with asyncio.TaskGroup() as tasks:
            for name, provisioner in self.provisioners.items():
                tasks.create_task(_look_at(name, provisioner))

    def _is_shut(self, runtime: str) -> bool:
        return self._consumer is not None and self._consumer.is_shut(runtime)


async def _look_at(name: str, provisioner: Provisioner) -> None:
    try:
        await provisioner.ping()
        log.info("runtime_answers", runtime=name)
    except ProvisionerError as error:
        log.error("runtime_unavailable", runtime=name, why=error.message)


@asynccontextmanager
async def _endpoints(settings: Settings, port: int, service: Moorage, metering: Metering) -> AsyncIterator[None]:
    from consumer.ops.http import PortTaken, served  # not loaded by those who do not ask

    try:
        async with served(settings.http_host, port, service.liveness, lambda: metering.readings):
            yield
    except PortTaken as error:
        raise ConfigurationError(f"MOORAGE_HTTP_PORT cannot be opened: {error}. Free it, or choose another.") from error


def _policy(settings: Settings) -> Policy:
    return Policy(
        lead=timedelta(seconds=settings.start_lead),
        grace=timedelta(seconds=settings.end_grace),
        self_schedule=settings.self_schedule,
    )


def _handling_options(settings: Settings, policy: Policy) -> HandlingOptions:
    return HandlingOptions(
        instance=settings.instance,
        provision_retries=RetryPolicy(
            max_attempts=settings.max_attempts,
            max_elapsed=settings.start_timeout,
            max_delay=settings.retry_max_delay,
        ),
        policy=policy,
    )


def _review(consumer: KeyedConsumer[Item], look: bool, assignment: Assignment, reservation_id: str) -> bool:
    """Have a reservation looked at in its lane; False when there is no room for it now."""
    item = Item(unwritten(assignment, reservation_id), Review(reservation_id, look=look))
    return consumer.admit(assignment, reservation_id, item)


def _forget(consumer: KeyedConsumer[Item], assignment: Assignment, reservation_id: str) -> bool:
    """Have a reservation forgotten in its lane, if it still is to be; False when there is no room for that now."""
    item = Expired(unwritten(assignment, reservation_id), Review(reservation_id))
    return consumer.admit(assignment, reservation_id, item)


def _tell(consumer: KeyedConsumer[Item] | None, message: Outgoing) -> None:
    if consumer is not None:
        consumer.tell(message)


async def _handle(guard: Guard, topics: Topics, work: Work[Item]) -> Verdict[Outgoing]:
    verdict = await guard.handle(work)
    match verdict:
        case Done(publications=publications, dead_letters=dead_letters):
            return Done(tuple(map(topics.outgoing, publications)), dead_letters)
        case Continue(publications=publications):
            return Continue(tuple(map(topics.outgoing, publications)))
    return verdict


def _consumer_options(settings: Settings, runtimes: Iterable[str]) -> Options:
    return Options(
        group=settings.group,
        group_instance=settings.group_instance,
        limits=_limits(settings, runtimes),
        dead_letters=DeadLetterBudget(burst=settings.dead_letter_burst),
        alarms=AlarmLimits(stalled_for=settings.stall_alarm),
        commit_interval=settings.commit_interval,
        drain_timeout=settings.drain_timeout,
    )


def _limits(settings: Settings, runtimes: Iterable[str]) -> Limits:
    """An engine of a pool has the limit of its kind, unless it has its own."""
    of_kinds = settings.runtime_concurrency
    limits = {name: of_kinds[kind] for name in runtimes if (kind := name.partition("@")[0]) in of_kinds} | of_kinds
    return Limits(
        max_records=settings.max_buffered_records,
        max_bytes=settings.max_buffered_bytes,
        max_records_per_partition=max(1, settings.max_buffered_records // 2),
        max_parked=max(1, settings.max_buffered_records // 2),
        concurrency=settings.concurrency,
        per_group=tuple(limits.items()),
    )
