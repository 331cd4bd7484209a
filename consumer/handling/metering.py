"""Reading regularly what the environments of the owned partitions use, for whoever asks in between."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import structlog

from consumer.handling.agenda import Agenda
from consumer.handling.errors import ProvisionerError
from consumer.handling.ports import Environment, Provisioner, Status
from consumer.handling.usage import Usage
from schemas.state import Phase

log = structlog.get_logger("moorage.metering")

Readings = Mapping[str, tuple[Environment, Usage]]
"""By the environment's native id: its latest reading."""

_AT_ONCE = 8
_PATIENCE = 30.0


class Metering:
    """Each member reads the environments of reservations that it remembers as running: none is read twice."""

    def __init__(self, agenda: Agenda, provisioners: Iterable[Provisioner], interval: float) -> None:
        self._agenda = agenda
        self._provisioners = list(provisioners)
        self._interval = interval
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.readings: Readings = {}

    async def run(self) -> None:
        """Read every `interval` seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            async with asyncio.TaskGroup() as tasks:
                found = [tasks.create_task(self._read(each)) for each in self._provisioners]
            self.readings = {env.native_id: (env, used) for task in found for env, used in task.result()}

    async def _read(self, provisioner: Provisioner) -> list[tuple[Environment, Usage]]:
        """Nothing, where the runtime does not answer."""
        try:
            async with asyncio.timeout(_PATIENCE):
                ours = [each for each in await provisioner.list() if self._counts(each)]
        except (ProvisionerError, TimeoutError) as error:
            log.warning("not_metered", runtime=provisioner.runtime, why=str(error) or "it takes too long")
            return []
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(self._usage(provisioner, each)) for each in ours]
        used = ((each, task.result()) for each, task in zip(ours, reading, strict=True))
        return [(each, usage) for each, usage in used if usage is not None]

    def _counts(self, environment: Environment) -> bool:
        index = self._agenda.states.index(environment.reservation_id)
        return environment.status is Status.RUNNING and index is not None and index.phase is Phase.ACTIVE

    async def _usage(self, provisioner: Provisioner, environment: Environment) -> Usage | None:
        """None where it cannot be told; one that is in trouble must not hide the others, let alone end the service."""
        async with self._slots:
            try:
                async with asyncio.timeout(_PATIENCE):
                    return await provisioner.usage(environment.key)
            except Exception as error:  # noqa: BLE001 - whatever a runtime's figures make us stumble over
                why = str(error) or type(error).__name__
                log.warning("not_metered", runtime=provisioner.runtime, environment=environment.name, why=why)
                return None


Latest = Callable[[], Readings]
