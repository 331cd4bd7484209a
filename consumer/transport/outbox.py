"""The outbox: everything an outcome publishes, acknowledged by all replicas before the outcome counts as done.

Publishing is retried until it works: while it does not, the outbox is unhealthy, intake pauses and nothing is
committed. What is `last`, such as state, is sent after all else of its outcome was acknowledged, so a crash in between
repeats the outcome instead of losing it.
"""

import asyncio
import hashlib
import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordTooLargeError

from consumer.dispatch import RetryPolicy
from consumer.transport.connection import Connection
from consumer.transport.outgoing import Outgoing
from consumer.transport.placing import default_partition
from consumer.transport.stopping import stop_client

log = structlog.get_logger("moorage.outbox")

_KEEP_TRYING = RetryPolicy(max_attempts=2**31, max_elapsed=float("inf"), base_delay=0.2, max_delay=5.0)
_STOPPING = 2.0
_BUSY = 100
"""Outcomes on their way at which nothing is sent that nobody depends on."""

_KEPT = 1024
"""Bytes of a key or header up to which a stub keeps it; of all headers together, `_HEADERS`."""

_HEADERS = 8 * 1024
_BATCH = 16 * 1024
"""Bytes that the producer puts together: what is refused below that may be so for what went with it."""

_TOO_LARGE = (MessageSizeTooLargeError, RecordTooLargeError)


class _Outcome:
    """The publications of one outcome on their way, in stages that follow each other."""

    __slots__ = ("acked", "alone", "attempt", "once", "stages", "waiting")

    def __init__(self, stages: deque[list[Outgoing]], acked: asyncio.Future[None], *, once: bool = False) -> None:
        self.once = once
        """Whether it is dropped when it fails."""

        self.stages = stages
        self.acked = acked
        self.attempt = 0
        self.waiting: list[Outgoing] = []
        """What the current attempt still waits for; each attempt has a list of its own."""

        self.alone: list[Outgoing] = []
        """What was refused as too large together with others, and is sent by itself now."""


class Outbox:
    """Publishes outcomes through one idempotent producer."""

    def __init__(
        self,
        connection: Connection,
        *,
        request_timeout: float = 15.0,
    ) -> None:
        self._connection = connection
        self._request_timeout = request_timeout
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

    def publish(self, publications: Sequence[Outgoing]) -> asyncio.Future[None]:
        """Start publishing one outcome; the future is done when the broker acknowledged all of it."""
        first = [each for each in publications if not each.last]
        last = [each for each in publications if each.last]
        acked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unacknowledged += 1
        self._empty.clear()
        self._enqueue(_Outcome(deque(stage for stage in (first, last) if stage), acked))
        return acked

    def tell(self, message: Outgoing) -> bool:
        """Send a message once, ahead of all that is handed in afterwards; False when it was dropped instead.

        For what nobody depends on: it is not waited for, and not sent while anything is slow or in the way.
        """
        if not self.healthy or self._producer is None or self._unacknowledged >= _BUSY:
            return False
        nobody: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(_Outcome(deque([[message]]), nobody, once=True))
        return True

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
                alone = publication in outcome.alone
                delivery = await self._hand_over(self._producer, publication, alone=alone)
            except (KafkaError, ValueError, AssertionError) as error:
                self._failed(outcome, publication, error)
                return
            delivery.add_done_callback(partial(self._delivered, outcome, outcome.waiting, publication))

    async def _hand_over(
        self, producer: AIOKafkaProducer, publication: Outgoing, *, alone: bool
    ) -> asyncio.Future[object]:
        topic, headers = publication.topic, list(publication.headers)
        # `send` refuses a record of nothing, which a topic may hold and a dead letter must give back; a batch takes it.
        if alone or (publication.key is None and publication.value is None):
            batch = producer.create_batch()
            batch.append(key=publication.key, value=publication.value, timestamp=None, headers=headers)
            partition = _partition_of(publication, sorted(await producer.partitions_for(topic)))
            batched: asyncio.Future[object] = await producer.send_batch(batch, topic, partition=partition)
            return batched
        sent: asyncio.Future[object] = await producer.send(
            topic, value=publication.value, key=publication.key, partition=publication.partition, headers=headers
        )
        return sent

    def _delivered(
        self, outcome: _Outcome, waiting: list[Outgoing], publication: Outgoing, done: asyncio.Future[object]
    ) -> None:
        error = KafkaError("cancelled") if done.cancelled() else done.exception()
        if outcome.waiting is not waiting:
            return  # an earlier attempt's; the outcome is on its way again
        if error is not None:
            self._failed(outcome, publication, error)
            return
        outcome.waiting.remove(publication)
        if outcome.waiting or outcome.once:
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

    def _failed(self, outcome: _Outcome, publication: Outgoing, error: BaseException | None) -> None:
        """Send the outcome's current stage again, after a wait; once, however many of its messages failed."""
        if not outcome.waiting:
            return
        outcome.waiting = []
        topic = publication.topic
        # A full buffer empties itself, in order, when the broker is back; a new producer would overtake what is in it.
        fatal = isinstance(error, KafkaError) and not error.retriable and not isinstance(error, KafkaTimeoutError)
        if outcome.once:
            log.info("publication_dropped", topic=topic, why=f"{type(error).__name__}: {error}")
            self._broken = self._broken or (fatal and not isinstance(error, _TOO_LARGE))
            return
        if isinstance(error, _TOO_LARGE) and not _is_bare(publication):
            self._make_fit(outcome, publication)
            self._enqueue(outcome)
            return
        outcome.attempt += 1
        delay = _KEEP_TRYING.delay(outcome.attempt, 0.0) or 0.0
        self.failure = f"publishing to {topic} fails: {type(error).__name__}: {error}"
        log.error("publishing_failed", topic=topic, why=self.failure, attempt=outcome.attempt, retry_in=round(delay, 2))
        if fatal:
            self._broken = True
        self._timers.add(asyncio.get_running_loop().call_later(delay, self._enqueue, outcome))
        self._timers = {timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time()}

    def _make_fit(self, outcome: _Outcome, publication: Outgoing) -> None:
        """Have what was refused as too large sent by itself, or else replaced: it was refused with its whole batch."""
        stage = outcome.stages[0]
        if publication not in outcome.alone and _weight(publication) < _BATCH:
            outcome.alone.append(publication)
            return
        stage[stage.index(publication)] = _stub(publication, bare=_is_stub(publication))
        log.error("publication_too_large", topic=publication.topic, bytes=_weight(publication))

    # The producer

    async def _connect(self) -> None:
        attempt = 0
        while True:
            producer = self._connection.producer(
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


def _stub(publication: Outgoing, *, bare: bool) -> Outgoing:
    """What stands for a message that no broker takes: its size and SHA-256, under the same key and headers.

    A `bare` one, for where even that is too large, has neither.
    """
    if bare:
        return replace(publication, key=None, headers=())
    value = publication.value or b""
    body = {"tooLarge": True, "bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    key = publication.key if len(publication.key or b"") <= _KEPT else None
    headers, room = [], _HEADERS
    for name, data in publication.headers:
        size = len(name) + len(data or b"")
        if size <= min(_KEPT, room):
            headers.append((name, data))
            room -= size
    return replace(publication, key=key, value=json.dumps(body).encode(), headers=tuple(headers))


def _is_stub(publication: Outgoing) -> bool:
    return (publication.value or b"").startswith(b'{"tooLarge": true')


def _is_bare(publication: Outgoing) -> bool:
    return _is_stub(publication) and publication.key is None and not publication.headers


def _weight(publication: Outgoing) -> int:
    headers = sum(len(name) + len(data or b"") for name, data in publication.headers)
    return len(publication.key or b"") + len(publication.value or b"") + headers


def _partition_of(publication: Outgoing, partitions: list[int]) -> int:
    if publication.partition is not None:
        return publication.partition
    if publication.key is None:
        return random.choice(partitions)  # noqa: S311 - as any producer does
    return default_partition(publication.key, len(partitions))
