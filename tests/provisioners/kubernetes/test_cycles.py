"""Environments come and go at once while requests fail at random: nothing of any of them is left."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import pytest

from consumer.handling.errors import Transient, Unavailable
from consumer.handling.ports import Provisioner, Status
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tests.provisioners.kubernetes.proxy import ApiProxy

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

T = TypeVar("T")

CYCLES, AT_ONCE = 60, 20
CHANCE = 0.05
"""Of each request to fail, which is about every second cycle."""

BROKEN_OFF = 0.5
"""How many starts their end breaks off."""

SEED = 7


async def test_nothing_is_left_of_environments_that_come_and_go_amid_faults(
    harness: KubernetesHarness, proxy: ApiProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.provisioners.kubernetes.starting._LOOK_ANYWAY", 0.5)
    members = [harness.provisioner_with(kubeconfig=str(proxy.kubeconfig), request_timeout=5) for _ in range(2)]
    seen: Counter[str] = Counter()
    left = iter(range(CYCLES))
    proxy.disturb(CHANCE, seed=SEED)

    async def worker() -> None:
        for number in left:
            await cycle(harness, members, number, seen)

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(worker())
    proxy.disturb(0)

    assert {fault for fault, _ in proxy.faults} >= {"refuse", "lose_reply", "cut_reply", "answer 500"}
    assert min(seen["made"], seen["broken off"], seen["runtime_unavailable"]) > 0
    await harness.nothing_left()


async def cycle(harness: KubernetesHarness, members: list[Provisioner], number: int, seen: Counter[str]) -> None:
    random = Random(f"{SEED}/{number}")  # noqa: S311 - the same story every time
    member, spec = random.choice(members), harness.spec(f"r-{number}")
    ensuring = asyncio.create_task(persistently(lambda: member.ensure(spec, ignore), seen))
    if random.random() < BROKEN_OFF:
        await asyncio.wait([ensuring], timeout=2 * random.random() ** 2)
        ensuring.cancel()
    [made] = await asyncio.gather(ensuring, return_exceptions=True)
    if isinstance(made, asyncio.CancelledError):
        seen["broken off"] += 1
    elif isinstance(made, BaseException):
        raise made
    else:
        seen["made"] += 1
        assert made.status is Status.RUNNING
    await persistently(lambda: member.remove(spec.key), seen)


async def persistently(call: Callable[[], Awaitable[T]], seen: Counter[str]) -> T:
    for _ in range(20):
        try:
            return await call()
        except (Transient, Unavailable) as error:
            seen[error.code] += 1
        await asyncio.sleep(0.1)
    return await call()
