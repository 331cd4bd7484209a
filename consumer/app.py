"""The composition root: builds the parts from settings, starts them in order and stops them in reverse."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import structlog

from consumer.catalog.templates import Catalog, Defaults
from consumer.dispatch import Dispatcher, Limits, RetryPolicy, Unfinished, Work
from consumer.handling.errors import ProvisionerError
from consumer.handling.handler import Handler, Options
from consumer.handling.lifecycle import Lifecycle
from consumer.handling.ports import Provisioner
from consumer.handling.publications import Publication
from consumer.handling.records import Item
from consumer.handling.routing import route
from consumer.reservations import Policy
from consumer.settings import Settings
from consumer.transport.connection import Connection, Topics
from consumer.transport.intake import Intake, IntakeOptions
from consumer.transport.outbox import Outbox
from consumer.transport.states import StateTopic
from consumer.transport.topics import ensure_topics

log = structlog.get_logger("moorage.app")

_FLUSH_TIMEOUT = 5.0


class ConfigurationError(Exception):
    """The settings do not fit together; the message says which and what to do."""


def connection_of(settings: Settings) -> Connection:
    password = settings.sasl_password
    return Connection(
        bootstrap_servers=settings.bootstrap_servers,
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_username=settings.sasl_username,
        sasl_password=password.get_secret_value() if password else None,
        ssl_ca_file=str(settings.ssl_ca_file) if settings.ssl_ca_file else None,
    )


def topics_of(settings: Settings) -> Topics:
    return Topics(
        inbound=settings.inbound_topics,
        outbound=settings.outbound_topic,
        state=settings.state_topic,
        dead_letter=settings.dead_letter_topic,
    )


def catalog_of(settings: Settings) -> Catalog:
    """The templates of the file, or one made of the defaults. Raises `CatalogError` or `ConfigurationError`."""
    if settings.templates is None:
        defaults = Defaults(
            runtime=settings.runtime,
            image=settings.image,
            cpu=settings.cpu_limit,
            memory=settings.memory_limit,
            storage=settings.storage_limit,
            allowed_images=settings.allowed_images,
        )
        return Catalog.from_defaults(defaults, instance=settings.instance)
    try:
        text = settings.templates.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read MOORAGE_TEMPLATES {settings.templates}: {error}") from error
    return Catalog.from_yaml(text, instance=settings.instance, source=settings.templates.name)


def provisioners_of(settings: Settings, runtimes: frozenset[str]) -> dict[str, Provisioner]:
    """A provisioner for each runtime that templates name. Raises `ConfigurationError` for one that is not there."""
    return {runtime: _provisioner(settings, runtime) for runtime in sorted(runtimes)}


def _provisioner(settings: Settings, runtime: str) -> Provisioner:
    # Imported where they are needed: runtimes are extras, and an installation has the ones it uses.
    if runtime == "process":
        from consumer.provisioners.process import ProcessOptions, ProcessProvisioner

        return ProcessProvisioner(
            ProcessOptions(
                root=settings.process_dir,
                instance=settings.instance,
                bind_host=settings.bind_host,
                public_host=settings.public_host,
            )
        )
    if runtime == "docker":
        try:
            from consumer.provisioners.docker import DockerOptions, DockerProvisioner
        except ImportError as error:
            raise ConfigurationError("The docker runtime needs `pip install moorage[docker]`.") from error
        return DockerProvisioner(
            DockerOptions(
                url=settings.docker_host,
                instance=settings.instance,
                bind_host=settings.bind_host,
                public_host=settings.public_host,
            )
        )
    raise ConfigurationError(
        f"This version of Moorage does not provide the runtime {runtime}; it provides process and docker. "
        "Change CONTAINER_RUNTIME or the template."
    )


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
            provisioners if provisioners is not None else provisioners_of(settings, self.catalog.runtimes)
        )
        self._stop = asyncio.Event()
        self._dispatcher: Dispatcher[Item, Publication] | None = None

    def stop(self) -> None:
        """Finish what is running and return from `run`. May be called from a signal handler."""
        self._stop.set()

    def unfinished(self) -> list[Unfinished]:
        """What is admitted and not done, oldest first."""
        return self._dispatcher.unfinished() if self._dispatcher is not None else []

    async def run(self) -> bool:
        """Serve until `stop`. True when everything taken in was finished.

        Raises `TransportError` when Kafka is not as it has to be at start; later troubles are waited out.
        """
        settings = self._settings
        connection, topics = connection_of(settings), topics_of(settings)
        await ensure_topics(connection, topics, create=settings.create_topics, partitions=settings.partitions)
        await self._look_at_runtimes()
        states = StateTopic(connection, topics.state)
        outbox = Outbox(connection, topics)
        lifecycle = Lifecycle(
            self.catalog,
            self.provisioners,
            instance=settings.instance,
            start_timeout=settings.start_timeout,
            release_timeout=settings.release_timeout,
        )
        handler = Handler(lifecycle, states, _handling_options(settings))
        async with AsyncExitStack() as stack:
            for provisioner in self.provisioners.values():
                stack.push_async_callback(provisioner.close)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            sending = tasks.create_task(outbox.run(), name="outbox")
            dispatcher = Dispatcher(
                handler.handle,
                outbox.publish,
                limits=_limits(settings),
                group_of=handler.group_of,
                on_crash=_log_crash,
            )
            self._dispatcher = await stack.enter_async_context(dispatcher)
            intake = Intake(
                connection,
                topics.inbound,
                _intake_options(settings),
                dispatcher=dispatcher,
                route=partial(route, max_bytes=settings.max_record_bytes),
                states=states,
                outbox=outbox,
            )
            stopping = tasks.create_task(self._stop_intake(intake), name="stop")
            finished = await intake.run()
            flushed = await outbox.flush(_FLUSH_TIMEOUT)
            stopping.cancel()
            sending.cancel()
        log.info("stopped", finished=finished and flushed)
        return finished and flushed

    async def _stop_intake(self, intake: Intake[Item]) -> None:
        await self._stop.wait()
        intake.stop()

    async def _look_at_runtimes(self) -> None:
        """Tell which runtimes answer. One that does not is no reason not to start: its work waits for it."""
        for name, provisioner in self.provisioners.items():
            try:
                await provisioner.ping()
                log.info("runtime_answers", runtime=name)
            except ProvisionerError as error:
                log.error("runtime_unavailable", runtime=name, why=error.message)


def _handling_options(settings: Settings) -> Options:
    return Options(
        instance=settings.instance,
        provision_retries=RetryPolicy(
            max_attempts=settings.max_attempts,
            max_elapsed=settings.start_timeout,
            max_delay=settings.retry_max_delay,
        ),
        policy=Policy(lead=timedelta(seconds=settings.start_lead)),
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_records=settings.max_buffered_records,
        max_bytes=settings.max_buffered_bytes,
        max_records_per_partition=max(1, settings.max_buffered_records // 2),
        concurrency=settings.concurrency,
        per_group=tuple(settings.runtime_concurrency.items()),
    )


def _intake_options(settings: Settings) -> IntakeOptions:
    return IntakeOptions(
        group=settings.group,
        group_instance=settings.group_instance,
        commit_interval=settings.commit_interval,
        drain_timeout=settings.drain_timeout,
    )


def _log_crash(work: Work[Item], error: BaseException) -> None:
    log.error("handler_crashed", offset=work.offset, why=repr(error))
