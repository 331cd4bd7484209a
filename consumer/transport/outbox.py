"""The outbox: everything an outcome publishes, acknowledged by all replicas before the outcome counts as done.

Publishing is retried until it works: while it does not, the outbox is unhealthy, intake pauses and nothing is
committed. State is written after all else of its outcome was acknowledged, so a crash in between repeats the outcome
(its results carry the same ids) instead of losing it.
"""

import asyncio
import hashlib
import json
import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordTooLargeError

from consumer.dispatch import RetryPolicy
from consumer.handling.publications import Channel, Publication
from consumer.transport.connection import Connection, Topics
from consumer.transport.stopping import stop_client

log = structlog.get_logger("moorage.outbox")

_KEEP_TRYING = RetryPolicy(max_attempts=2**31, max_elapsed=float("inf"), base_delay=0.2, max_delay=5.0)
_STOPPING = 5.0
_TOO_LARGE = (MessageSizeTooLargeError, RecordTooLargeError)


class _Outcome:
    """The publications of one outcome on their way, in stages that follow each other."""

    __slots__ = ("acked", "attempt", "stages", "waiting")

    def __init__(self, stages: deque[list[Publication]], acked: asyncio.Future[None]) -> None:
        self.stages = stages
        self.acked = acked
        self.attempt = 0
        self.waiting: list[Publication] = []


class Outbox:
    """Publishes outcomes through one idempotent producer."""

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        *,
        request_timeout: float = 15.0,
        new_producer: Callable[..., AIOKafkaProducer] = AIOKafkaProducer,
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._request_timeout = request_timeout
        self._new_producer = new_producer
        self._queue: deque[_Outcome] = deque()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._unacknowledged = 0
        self._timers: set[asyncio.TimerHandle] = set()
        self._producer: AIOKafkaProducer | None = None
        self._broken = False
        self.failure: str | None = None
        """What stands in the way of publishing; None while it works."""

    @property
    def healthy(self) -> bool:
        return self.failure is None

    @property
    def unacknowledged(self) -> int:
        """Outcomes handed in and not acknowledged yet."""
        return self._unacknowledged

    def publish(self, publications: Sequence[Publication]) -> asyncio.Future[None]:
        """Start publishing one outcome; the future is done when the broker acknowledged all of it."""
        first = [each for each in publications if each.channel is not Channel.STATE]
        last = [each for each in publications if each.channel is Channel.STATE]
        acked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unacknowledged += 1
        self._empty.clear()
        self._enqueue(_Outcome(deque(stage for stage in (first, last) if stage), acked))
        return acked

    async def run(self) -> None:
        """Send what is handed in, until cancelled; `flush` first."""
        try:
            await self._connect()
            while True:
                await self._filled.wait()
                if self._broken:
                    await self._reconnect()
                outcome = self._queue.popleft()
                if not self._queue:
                    self._filled.clear()
                await self._send(outcome)
        finally:
            for timer in self._timers:
                timer.cancel()
            await self._disconnect()

    async def flush(self, timeout: float) -> bool:
        """Wait until everything handed in was acknowledged; False when that took longer than `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    # Sending

    def _enqueue(self, outcome: _Outcome) -> None:
        self._queue.append(outcome)
        self._filled.set()

    async def _send(self, outcome: _Outcome) -> None:
        assert self._producer is not None  # noqa: S101 - narrows the type: run() connected
        outcome.waiting = list(outcome.stages[0])
        for publication in outcome.stages[0]:
            try:
                delivery = await self._hand_over(self._producer, publication)
            except (KafkaError, ValueError, AssertionError) as error:
                self._failed(outcome, publication, error)
                return
            delivery.add_done_callback(partial(self._delivered, outcome, publication))

    async def _hand_over(self, producer: AIOKafkaProducer, publication: Publication) -> asyncio.Future[object]:
        topic, headers = self._topics.of(publication.channel), list(publication.headers)
        if publication.key is None and publication.value is None:
            # `send` refuses such a record, which a topic may hold and a dead letter must give back; a batch takes it.
            batch = producer.create_batch()
            batch.append(key=None, value=None, timestamp=None, headers=headers)
            partition = random.choice(sorted(await producer.partitions_for(topic)))  # noqa: S311 - as for any null key
            batched: asyncio.Future[object] = await producer.send_batch(batch, topic, partition=partition)
            return batched
        sent: asyncio.Future[object] = await producer.send(
            topic, value=publication.value, key=publication.key, partition=publication.partition, headers=headers
        )
        return sent

    def _delivered(self, outcome: _Outcome, publication: Publication, done: asyncio.Future[object]) -> None:
        if done.cancelled() or (error := done.exception()) is not None:
            self._failed(outcome, publication, KafkaError("cancelled") if done.cancelled() else error)
            return
        if publication not in outcome.waiting:
            return  # an earlier attempt's; the outcome is on its way again
        outcome.waiting.remove(publication)
        if outcome.waiting:
            return
        self.failure = None
        outcome.stages.popleft()
        outcome.attempt = 0
        if outcome.stages:
            self._enqueue(outcome)
            return
        self._unacknowledged -= 1
        if not self._unacknowledged:
            self._empty.set()
        if not outcome.acked.done():
            outcome.acked.set_result(None)

    def _failed(self, outcome: _Outcome, publication: Publication, error: BaseException | None) -> None:
        """Send the outcome's current stage again, after a wait; once, however many of its messages failed."""
        if not outcome.waiting:
            return
        outcome.waiting = []
        topic = self._topics.of(publication.channel)
        if isinstance(error, _TOO_LARGE):
            stage = outcome.stages[0]
            stage[stage.index(publication)] = _stub(publication)
            log.error("publication_too_large", topic=topic, bytes=len(publication.value or b""))
            self._enqueue(outcome)
            return
        outcome.attempt += 1
        delay = _KEEP_TRYING.delay(outcome.attempt, 0.0) or 0.0
        self.failure = f"publishing to {topic} fails: {type(error).__name__}: {error}"
        log.error("publishing_failed", topic=topic, why=self.failure, attempt=outcome.attempt, retry_in=round(delay, 2))
        # A full buffer empties itself, in order, when the broker is back; a new producer would overtake what is in it.
        if isinstance(error, KafkaError) and not error.retriable and not isinstance(error, KafkaTimeoutError):
            self._broken = True
        self._timers.add(asyncio.get_running_loop().call_later(delay, self._enqueue, outcome))
        self._timers = {timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time()}

    # The producer

    async def _connect(self) -> None:
        attempt = 0
        while True:
            producer = self._new_producer(
                **self._connection.arguments(),
                acks="all",
                enable_idempotence=True,
                request_timeout_ms=int(self._request_timeout * 1000),
            )
            try:
                await producer.start()
            except asyncio.CancelledError:
                await stop_client(producer, _STOPPING)
                raise
            except KafkaError as error:
                await stop_client(producer, _STOPPING)
                attempt += 1
                self.failure = f"no broker takes our messages: {type(error).__name__}: {error}"
                log.error("producer_not_started", why=str(error), attempt=attempt)
                await asyncio.sleep(_KEEP_TRYING.delay(attempt, 0.0) or 0.0)
            else:
                self._producer, self._broken, self.failure = producer, False, None
                return

    async def _disconnect(self) -> None:
        if self._producer is None:
            return
        producer, self._producer = self._producer, None
        if (why := await stop_client(producer, _STOPPING)) is not None:
            log.warning("producer_not_stopped_cleanly", why=why)

    async def _reconnect(self) -> None:
        """Begin with a new producer: an idempotent one that lost its sequence never recovers."""
        log.warning("producer_replaced", why=self.failure)
        await self._disconnect()
        await self._connect()


def _stub(publication: Publication) -> Publication:
    """What stands for a message that no broker takes: its size and SHA-256, under the same key and our own headers."""
    value = publication.value or b""
    body = {"tooLarge": True, "bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    headers = tuple((name, data) for name, data in publication.headers if len(data or b"") <= 1024)
    key = publication.key if len(publication.key or b"") <= 1024 else None
    return Publication(publication.channel, key, json.dumps(body).encode(), headers, publication.partition)
