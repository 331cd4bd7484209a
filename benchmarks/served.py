"""The whole service, sent events and timed by the results that come out of its outbound topic."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.contestants.harness import Task
from benchmarks.events import ends, starts
from benchmarks.machine import stalled
from benchmarks.process import started
from benchmarks.topics import Topics, unique
from schemas.cloudevents import result_type
from schemas.outbound import Outcome

_PARTITIONS = 8
_ALONE = 10


async def served(
    topics: Topics, settings: dict[str, Any], count: int, concurrency: int, *, timeout: float
) -> dict[str, Any]:
    """Seconds for `count` reservations: all their STARTs at once, then all their ENDs; and some one after another.

    `environments` is how many came and went in all.
    """
    names = {name: await topics.create(name, _PARTITIONS) for name in ("inbound", "outbound", "dead-letters")}
    state = await topics.create("state", _PARTITIONS, **{"cleanup.policy": "compact"})
    outgoing = {"outbound_topic": names["outbound"], "dead_letter_topic": names["dead-letters"], "state_topic": state}
    inbound, group = names["inbound"], unique("real-service")
    task = Task(topics.bootstrap, inbound, group, _PARTITIONS, count, concurrency, settings=settings | outgoing)
    command = [sys.executable, "-m", "benchmarks.contestants.real_service", json.dumps(asdict(task))]
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        async with (
            asyncio.timeout(timeout),
            _line(topics, inbound, names["outbound"]) as line,
            started(command, Path(folder, "stderr")) as contestant,
        ):
            contestant.tell("GO")
            await contestant.hear("HANDLED", timeout)
            others = range(count, count + 1 + _ALONE)
            alone = [(await line.created([each]), await line.removed([each])) for each in others]
            used, waited, began = contestant.cpu(), stalled(), time.perf_counter()
            created = await line.created(range(count))
            removed = await line.removed(range(count))
            cpu, took = contestant.cpu() - used, time.perf_counter() - began
            disturbed = (stalled() - waited) / took
    assert not await topics.size(names["dead-letters"]), "something failed"
    # The first waited until the service had joined its group.
    created["alone"] = [each["seconds"] for each, _ in alone[1:]]
    removed["alone"] = [each["seconds"] for _, each in alone[1:]]
    environments = count + len(others)
    return {"created": created, "removed": removed, "cpu": cpu, "stalled": disturbed, "environments": environments}


class _Line:
    """Events in, results out."""

    def __init__(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, inbound: str) -> None:
        self._producer = producer
        self._consumer = consumer
        self._inbound = inbound

    async def created(self, numbers: Iterable[int]) -> dict[str, Any]:
        return await self._answered(list(starts(numbers)), Outcome.PROVISIONED)

    async def removed(self, numbers: Iterable[int]) -> dict[str, Any]:
        return await self._answered(list(ends(numbers)), Outcome.RELEASED)

    async def _answered(self, events: list[tuple[bytes, bytes]], outcome: Outcome) -> dict[str, Any]:
        """Send these, and wait for a result of each: what all took, and how long each waited for its own."""
        began = time.perf_counter()
        sent: dict[bytes, float] = {}
        for key, value in events:
            sent[key] = time.perf_counter()
            await self._producer.send(self._inbound, value, key)
        single = []
        while sent:
            message = await self._consumer.getone()
            kind = dict(message.headers)["ce_type"].decode()
            if kind == result_type(outcome) and message.key in sent:
                single.append(time.perf_counter() - sent.pop(message.key))
            assert kind != result_type(Outcome.FAILED), message.value
        return {"seconds": time.perf_counter() - began, "single": single}


@asynccontextmanager
async def _line(topics: Topics, inbound: str, outbound: str) -> AsyncIterator[_Line]:
    producer = AIOKafkaProducer(bootstrap_servers=topics.bootstrap, enable_idempotence=True)
    consumer = AIOKafkaConsumer(bootstrap_servers=topics.bootstrap, fetch_max_wait_ms=20)
    await producer.start()
    await consumer.start()
    try:
        partitions = [TopicPartition(outbound, each) for each in range(_PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        yield _Line(producer, consumer, inbound)
    finally:
        await consumer.stop()
        await producer.stop()
