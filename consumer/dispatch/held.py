"""Outcomes whose dead letters are beyond the budget: they wait, oldest first, until it allows for them."""

import asyncio
import math
from collections.abc import Callable
from typing import Generic, TypeVar

from consumer.dispatch.allowance import Allowance, DeadLetterBudget
from consumer.dispatch.lanes import Lane
from consumer.dispatch.verdicts import Done

T = TypeVar("T")
P = TypeVar("P")


class HeldLetters(Generic[T, P]):
    """`deliver` is called for what was held, when it is paid for."""

    def __init__(self, budget: DeadLetterBudget, deliver: Callable[[Lane[T], Done[P]], None]) -> None:
        self._allowance = Allowance(budget)
        self._deliver = deliver
        self._held: dict[Lane[T], Done[P]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def pay(self, lane: Lane[T], outcome: Done[P]) -> bool:
        """Whether the outcome may be published now; otherwise it is held."""
        if not outcome.dead_letters:
            self._allowance.earn()
            if self._held:
                self._release()
            return True
        if not self._held and self._allowance.take(outcome.dead_letters, asyncio.get_running_loop().time()):
            return True
        self._held[lane] = outcome
        if self._timer is None:
            self._release()
        return False

    def withdraw(self, lane: Lane[T]) -> None:
        """Forget what this lane has, if anything is held for it."""
        self._held.pop(lane, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release(self) -> None:
        self.close()
        loop = asyncio.get_running_loop()
        while self._held:
            lane, outcome = next(iter(self._held.items()))
            if not self._allowance.take(outcome.dead_letters, loop.time()):
                wait = self._allowance.wait(outcome.dead_letters)
                self._timer = loop.call_later(wait, self._release) if wait < math.inf else None
                return
            del self._held[lane]
            self._deliver(lane, outcome)
