"""What environments use is read for whoever asks; one that makes trouble neither hides the others nor ends anything."""

import asyncio
from datetime import UTC, datetime

from consumer.catalog.identity import reservation_key
from consumer.handling.metering import Metering
from consumer.handling.usage import Usage
from consumer.provisioners.memory import Call
from tests.handling.world import INSTANCE, SECOND, World, end, start
from tests.reservations.bookings import END
from tests.virtual_clock import run

USED = Usage(datetime(2026, 3, 2, tzinfo=UTC), 1.0, 4096)


def key(reservation_id: str) -> str:
    return reservation_key(INSTANCE, reservation_id)


async def _metered() -> None:
    world = World()
    service = await world.starts()
    metering = Metering(service.agenda, service.provisioners, 10.0)
    reading = asyncio.create_task(metering.run())
    for each in ("1841", "1842", "1843"):
        world.send(start(each, end=END))
        world.docker.usage[key(each)] = USED
    await world.sleep(SECOND)

    async def latency(call: Call) -> None:
        if call.operation == "usage" and call.key == key("1842"):
            raise TypeError("what it says makes no sense")
        if call.operation == "usage" and call.key == key("1843"):
            await asyncio.sleep(3600)

    world.docker.latency = latency
    await world.sleep(60 * SECOND)
    assert [env.reservation_id for env, _ in metering.readings.values()] == ["1841"]

    world.docker.latency = 0.0
    world.send(end("1841"))
    await world.sleep(60 * SECOND)
    assert {env.reservation_id for env, _ in metering.readings.values()} == {"1842", "1843"}

    world.docker.reachable = False
    await world.sleep(60 * SECOND)
    assert metering.readings == {}
    assert not reading.done()
    reading.cancel()
    await world.dies()


def test_the_others_are_read_and_reading_goes_on() -> None:
    run(_metered())
