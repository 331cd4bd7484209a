"""aiokafka's clients for short errands: started and stopped within bounds, with errors an operator can act on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from consumer.transport.connection import Connection, TransportError
from consumer.transport.stopping import stop_client

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that Kafka may take to answer before an errand gives up."""

_STOPPING = 2.0
_APPEARING = 3.0


class NoAnswer(TransportError):
    """Kafka is silent; whatever comes next would wait as long."""


@asynccontextmanager
async def running(make: Callable[..., Any], connection: Connection, **options: Any) -> AsyncIterator[Any]:
    """What `make` returns, started. Raises `TransportError` when it cannot start, or for any `KafkaError` inside."""
    client = _new(make, connection, options)
    try:
        await _start(client, connection)
        yield client
    except KafkaError as error:
        raise TransportError(f"Kafka at {connection.bootstrap_servers} refused: {error}") from error
    finally:
        if await stop_client(client, _STOPPING) is not None:
            # A client that was cut off while it stopped leaves its connections open.
            await stop_client(getattr(client, "_client", None) or client.client, _STOPPING)


async def partitions_of(connection: Connection, topic: str) -> frozenset[int]:
    """The partitions of a topic, which may take a moment to appear and is never created here.

    Raises `TransportError` when it does not.
    """
    async with running(connection.admin, connection) as admin:
        latest = asyncio.get_running_loop().time() + _APPEARING
        while True:
            # All topics, since asking for one by name creates it on brokers that are set up so.
            for each in await _answered(admin.describe_topics(), connection):
                if each["topic"] == topic and each["partitions"]:
                    return frozenset(partition["partition"] for partition in each["partitions"])
            if asyncio.get_running_loop().time() > latest:
                raise TransportError(
                    f"Kafka at {connection.bootstrap_servers} has no topic {topic}, or does not let us see it. "
                    "`moorage run` creates the topics it needs; otherwise check the name."
                )
            await asyncio.sleep(0.2)


def no_answer(connection: Connection, why: str = "") -> NoAnswer:
    return NoAnswer(
        f"No Kafka broker answers at {connection.bootstrap_servers} ({why or f'silent for {PATIENCE:g} s'}). "
        "Check KAFKA_BOOTSTRAP_SERVERS, the credentials and that the brokers run."
    )


async def _answered(request: Awaitable[T], connection: Connection) -> T:
    try:
        async with asyncio.timeout(PATIENCE):
            return await request
    except TimeoutError as error:
        raise no_answer(connection) from error


def _new(make: Callable[..., Any], connection: Connection, options: dict[str, Any]) -> Any:
    try:
        return make(request_timeout_ms=int(PATIENCE * 1000), **options)
    except OSError as error:
        raise TransportError(f"KAFKA_SSL_CA_FILE {connection.ssl_ca_file} cannot be used: {error}") from error
    except ValueError as error:  # a user name that is missing
        raise TransportError(f"The KAFKA_* settings cannot be used: {error}") from error


async def _start(client: Any, connection: Connection) -> None:
    with _overheard() as complaints:
        try:
            async with asyncio.timeout(PATIENCE):
                await client.start()
        except (KafkaError, TimeoutError) as error:
            raise no_answer(connection, "; ".join(complaints)) from error
        except ValueError as error:  # addresses are parsed only now
            raise TransportError(f"KAFKA_BOOTSTRAP_SERVERS {connection.bootstrap_servers}: {error}") from error


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect why brokers are not reached: aiokafka logs the reasons and raises an error without them."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    logger, listener = logging.getLogger("aiokafka"), Listener(logging.ERROR)
    logger.addHandler(listener)
    try:
        yield heard
    finally:
        logger.removeHandler(listener)
